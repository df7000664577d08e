-- Tenants and their API keys. Nothing here is read on the way of a job; schedulers keep what they read for a few seconds.

CREATE TABLE sluice.tenants (
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT tenants_pkey PRIMARY KEY (name),
    CONSTRAINT tenants_name CHECK (octet_length(name) BETWEEN 1 AND 64)
);
COMMENT ON TABLE sluice.tenants IS 'Who owns jobs, keys and budgets. A tenant is made with its first key.';
COMMENT ON COLUMN sluice.tenants.name IS 'Its name.';
COMMENT ON COLUMN sluice.tenants.created_at IS 'When it was made.';
INSERT INTO sluice.tenants (name) VALUES ('default');

CREATE TABLE sluice.api_keys (
    id uuid NOT NULL,
    sha256 bytea NOT NULL,
    tenant text NOT NULL,
    name text NOT NULL,
    hint text NOT NULL,
    scopes text[] NOT NULL,
    queues text[],
    top_priority smallint NOT NULL,
    submits_per_minute integer,
    max_waiting integer,
    networks text[],
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lifetime interval,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_sha256 UNIQUE (sha256),
    CONSTRAINT api_keys_sha256_length CHECK (octet_length(sha256) = 32),
    CONSTRAINT api_keys_tenant FOREIGN KEY (tenant) REFERENCES sluice.tenants (name),
    CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0
        AND scopes <@ ARRAY['submit', 'read', 'cancel', 'replay', 'admin']),
    CONSTRAINT api_keys_queues CHECK (cardinality(queues) > 0),
    CONSTRAINT api_keys_networks CHECK (cardinality(networks) > 0),
    CONSTRAINT api_keys_bounds CHECK (top_priority BETWEEN 1 AND 5 AND submits_per_minute > 0 AND max_waiting > 0)
);
CREATE INDEX api_keys_of_tenant ON sluice.api_keys (tenant, created_at);
COMMENT ON TABLE sluice.api_keys IS
    'API keys. A row stays when its key is revoked: once a key was made, nobody gets in without one.';
COMMENT ON COLUMN sluice.api_keys.id IS 'By which people name it; no secret.';
COMMENT ON COLUMN sluice.api_keys.sha256 IS 'SHA-256 of the whole key, which is stored nowhere.';
COMMENT ON COLUMN sluice.api_keys.tenant IS 'Whose jobs it reaches.';
COMMENT ON COLUMN sluice.api_keys.name IS 'What it is called, for people.';
COMMENT ON COLUMN sluice.api_keys.hint IS 'Its first characters, by which people tell keys apart.';
COMMENT ON COLUMN sluice.api_keys.scopes IS 'What it may do: submit, read, cancel, replay, admin (all of them).';
COMMENT ON COLUMN sluice.api_keys.queues IS 'The queues that it may use; null means all.';
COMMENT ON COLUMN sluice.api_keys.top_priority IS 'The most urgent priority of its jobs, 1 to 5.';
COMMENT ON COLUMN sluice.api_keys.submits_per_minute IS 'Jobs that it may submit a minute; null means any number.';
COMMENT ON COLUMN sluice.api_keys.max_waiting IS 'Submits are refused while so many jobs of its tenant, in its queues, wait; null means never.';
COMMENT ON COLUMN sluice.api_keys.networks IS 'Addresses and ranges that it may come from; null means any.';
COMMENT ON COLUMN sluice.api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN sluice.api_keys.lifetime IS 'For how long it was made, which is also what its successor gets; null means for ever.';
COMMENT ON COLUMN sluice.api_keys.expires_at IS 'From when on it is not valid any more; null means never.';
COMMENT ON COLUMN sluice.api_keys.revoked_at IS 'When somebody revoked it.';
COMMENT ON COLUMN sluice.api_keys.last_used_at IS 'When it was last used, to about a minute.';

-- One row for a key with a rate, locked for a moment by each scheduler that takes a second's worth of submits from it.
CREATE TABLE sluice.key_allowances (
    key_id uuid NOT NULL,
    left_over double precision NOT NULL,
    counted_at timestamptz NOT NULL,
    CONSTRAINT key_allowances_pkey PRIMARY KEY (key_id),
    CONSTRAINT key_allowances_key FOREIGN KEY (key_id) REFERENCES sluice.api_keys (id) ON DELETE CASCADE
);
COMMENT ON TABLE sluice.key_allowances IS 'How many jobs a key with a rate may still submit: a bucket that holds a minute''s worth.';
COMMENT ON COLUMN sluice.key_allowances.key_id IS 'The key.';
COMMENT ON COLUMN sluice.key_allowances.left_over IS 'What was left in the bucket when it was last taken from.';
COMMENT ON COLUMN sluice.key_allowances.counted_at IS 'When that was; it fills since then.';

CREATE FUNCTION sluice.key_allowance_take(p_key uuid, p_per_minute integer, p_wanted integer)
    RETURNS TABLE (granted integer, wait_ms bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_bucket record;
    v_now timestamptz;
    v_left double precision;
BEGIN
    INSERT INTO sluice.key_allowances (key_id, left_over, counted_at) VALUES (p_key, p_per_minute, clock_timestamp())
    ON CONFLICT (key_id) DO NOTHING;
    SELECT a.left_over, a.counted_at INTO STRICT v_bucket FROM sluice.key_allowances a WHERE a.key_id = p_key FOR UPDATE;
    -- Read when the row is ours: a clock that was read while another took would count the time between twice.
    v_now := greatest(clock_timestamp(), v_bucket.counted_at);
    v_left := least(p_per_minute,
        v_bucket.left_over + extract(epoch FROM v_now - v_bucket.counted_at)::double precision * p_per_minute / 60);
    granted := least(p_wanted, floor(v_left))::integer;
    wait_ms := CASE WHEN granted < p_wanted THEN ceil((1 - (v_left - granted)) * 60000 / p_per_minute)::bigint ELSE 0 END;
    UPDATE sluice.key_allowances a SET left_over = v_left - granted, counted_at = v_now WHERE a.key_id = p_key;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION sluice.key_allowance_take(uuid, integer, integer) IS
    'Takes up to so many submits from a key''s bucket; says how many it got, and if that is not all, after how many milliseconds there is one more.';
REVOKE ALL ON FUNCTION sluice.key_allowance_take(uuid, integer, integer) FROM PUBLIC;

-- Walks the lanes that hold waiting jobs from one to the next, since there is no index by tenant, and counts no further
-- than asked. A lane's tenant and queue stand in any of its jobs: its row in sluice.lanes may not be there yet.
CREATE FUNCTION sluice.waiting_count(p_tenant text, p_queues text[], p_most integer) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_from bigint := -9223372036854775808;
    v_lane bigint;
    v_job uuid;
    v_total bigint := 0;
    v_count bigint;
BEGIN
    LOOP
        SELECT r.lane_id, r.job_id INTO v_lane, v_job FROM sluice.ready r
        WHERE r.lane_id >= v_from
        ORDER BY r.lane_id LIMIT 1;
        EXIT WHEN NOT FOUND;
        IF EXISTS (SELECT FROM sluice.jobs j WHERE j.id = v_job AND j.tenant = p_tenant
                   AND (p_queues IS NULL OR j.queue = ANY (p_queues))) THEN
            SELECT count(*) INTO v_count
            FROM (SELECT FROM sluice.ready r WHERE r.lane_id = v_lane LIMIT p_most - v_total) AS waiting;
            v_total := v_total + v_count;
        END IF;
        EXIT WHEN v_total >= p_most OR v_lane = 9223372036854775807;
        v_from := v_lane + 1;
    END LOOP;
    RETURN v_total;
END $$;
COMMENT ON FUNCTION sluice.waiting_count(text, text[], integer) IS
    'How many jobs of a tenant wait for a lease, in some queues or in all; counts no further than p_most.';
REVOKE ALL ON FUNCTION sluice.waiting_count(text, text[], integer) FROM PUBLIC;
