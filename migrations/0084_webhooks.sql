-- Webhooks: who asked to be told when a job ends, and what is to be told. A delivery is written by the statement that ends
-- its job, so that none is lost, and sent by whichever scheduler leases it.

-- Given up before anybody takes it for a deadlock: the trigger below needs a lock on the table that every settle writes.
SET LOCAL lock_timeout = '200ms';

-- A job with a webhook is known by its id, so that the end of any other costs a look at two of its bytes and no look-up. (A
-- column would have to go with the job through ready, running and done, for all jobs alike.)
CREATE FUNCTION sluice.may_have_webhook(p_job uuid) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN get_byte(uuid_send(p_job), 15) = 237 AND get_byte(uuid_send(p_job), 14) = 94;
COMMENT ON FUNCTION sluice.may_have_webhook(uuid) IS
    'Whether a job''s id ends in 5eed, as the ids of all jobs with a webhook do; one in 65,536 others does so by chance.';
REVOKE ALL ON FUNCTION sluice.may_have_webhook(uuid) FROM PUBLIC;

CREATE TABLE sluice.webhooks (
    job_id uuid NOT NULL,
    tenant text NOT NULL,
    queue text NOT NULL,
    url text NOT NULL,
    CONSTRAINT webhooks_pkey PRIMARY KEY (job_id),
    CONSTRAINT webhooks_job_is_marked CHECK (sluice.may_have_webhook(job_id)),
    CONSTRAINT webhooks_url CHECK (octet_length(url) BETWEEN 1 AND 2048)
);
COMMENT ON TABLE sluice.webhooks IS 'Who asked to be told when a job ends.';
COMMENT ON COLUMN sluice.webhooks.job_id IS 'The job.';
COMMENT ON COLUMN sluice.webhooks.tenant IS 'Whose it is.';
COMMENT ON COLUMN sluice.webhooks.queue IS 'The line that it stands in.';
COMMENT ON COLUMN sluice.webhooks.url IS 'Where to tell it.';

CREATE TABLE sluice.webhook_deliveries (
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    generation integer NOT NULL,
    tenant text NOT NULL,
    queue text NOT NULL,
    url text NOT NULL,
    target bigint NOT NULL,
    job_state sluice.job_state NOT NULL,
    state text NOT NULL,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    lease_id uuid,
    tries integer NOT NULL DEFAULT 0,
    last_try_at timestamptz,
    status_code smallint,
    problem text,
    ended_at timestamptz,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_deliveries_one_for_an_end UNIQUE (job_id, generation),
    CONSTRAINT webhook_deliveries_state CHECK (state IN ('pending', 'delivered', 'failed', 'disabled'))
);
CREATE INDEX webhook_deliveries_due ON sluice.webhook_deliveries (due_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_of_tenant ON sluice.webhook_deliveries (tenant, id);
CREATE INDEX webhook_deliveries_open_of_target ON sluice.webhook_deliveries (target) WHERE state <> 'delivered';
COMMENT ON TABLE sluice.webhook_deliveries IS 'Ends of jobs that somebody is to be told, and those that were: the outbox.';
COMMENT ON COLUMN sluice.webhook_deliveries.id IS 'UUIDv7; receivers see it as the header webhook-id, the same at each try.';
COMMENT ON COLUMN sluice.webhook_deliveries.job_id IS 'The job that ended.';
COMMENT ON COLUMN sluice.webhook_deliveries.generation IS 'Which life of it.';
COMMENT ON COLUMN sluice.webhook_deliveries.tenant IS 'Whose it is.';
COMMENT ON COLUMN sluice.webhook_deliveries.queue IS 'The line that it stood in.';
COMMENT ON COLUMN sluice.webhook_deliveries.url IS 'Where to tell it.';
COMMENT ON COLUMN sluice.webhook_deliveries.target IS 'A hash of tenant and url, by which few go to one target at once.';
COMMENT ON COLUMN sluice.webhook_deliveries.job_state IS 'How the job ended.';
COMMENT ON COLUMN sluice.webhook_deliveries.state IS
    'pending: it is to be sent. delivered. failed: it was tried for days in vain. disabled: its target wants no more (410).';
COMMENT ON COLUMN sluice.webhook_deliveries.created_at IS 'When the job ended, by the database clock.';
COMMENT ON COLUMN sluice.webhook_deliveries.due_at IS 'When it is to be tried next, if it is pending; while it is tried, when its lease ends.';
COMMENT ON COLUMN sluice.webhook_deliveries.lease_id IS 'The last try: whoever else writes of it is too late.';
COMMENT ON COLUMN sluice.webhook_deliveries.tries IS 'How often it was tried since it was written, or sent anew.';
COMMENT ON COLUMN sluice.webhook_deliveries.last_try_at IS 'When it was tried last.';
COMMENT ON COLUMN sluice.webhook_deliveries.status_code IS 'What its target answered last; null: nothing yet, or no answer.';
COMMENT ON COLUMN sluice.webhook_deliveries.problem IS 'Why the last try was in vain.';
COMMENT ON COLUMN sluice.webhook_deliveries.ended_at IS 'When it was delivered or given up.';

CREATE TABLE sluice.webhook_targets (
    tenant text NOT NULL,
    url text NOT NULL,
    disabled_at timestamptz NOT NULL,
    CONSTRAINT webhook_targets_pkey PRIMARY KEY (tenant, url)
);
COMMENT ON TABLE sluice.webhook_targets IS 'Targets of webhooks that want no more: they answered 410.';
COMMENT ON COLUMN sluice.webhook_targets.tenant IS 'Whose jobs are told there.';
COMMENT ON COLUMN sluice.webhook_targets.url IS 'The target.';
COMMENT ON COLUMN sluice.webhook_targets.disabled_at IS 'When it said so.';

CREATE FUNCTION sluice.webhook_deliver_end() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
BEGIN
    INSERT INTO sluice.webhook_deliveries
        (id, job_id, generation, tenant, queue, url, target, job_state, state, created_at, due_at, problem, ended_at)
    SELECT sluice.uuid_v7(), NEW.job_id, NEW.generation, w.tenant, w.queue, w.url,
           hashtextextended(w.tenant || ' ' || w.url, 0), NEW.state,
           CASE WHEN t.disabled_at IS NULL THEN 'pending' ELSE 'disabled' END, NEW.finished_at, NEW.finished_at,
           CASE WHEN t.disabled_at IS NOT NULL THEN 'the target answered 410 before' END,
           CASE WHEN t.disabled_at IS NOT NULL THEN NEW.finished_at END
    FROM sluice.webhooks w
    LEFT JOIN sluice.webhook_targets t ON t.tenant = w.tenant AND t.url = w.url
    WHERE w.job_id = NEW.job_id
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sluice.webhook_deliver_end() IS 'Writes the delivery of a job''s end, if somebody asked for it.';
REVOKE ALL ON FUNCTION sluice.webhook_deliver_end() FROM PUBLIC;

CREATE TRIGGER webhook_deliver_end AFTER INSERT ON sluice.done
    FOR EACH ROW WHEN (get_byte(uuid_send(NEW.job_id), 15) = 237 AND get_byte(uuid_send(NEW.job_id), 14) = 94)
    EXECUTE FUNCTION sluice.webhook_deliver_end();

CREATE FUNCTION sluice.webhook_deliveries_lease(
    p_lease uuid, p_most integer, p_most_of_target integer, p_busy bigint[], p_lease_ms integer)
    RETURNS TABLE (
        id uuid, job_id uuid, generation integer, tenant text, url text, target bigint, job_state sluice.job_state,
        created_at timestamptz, tries integer)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_seqscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    -- Read once: a volatile clock in WHERE is a filter and no bound of the index scan.
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT d.id, d.target, d.due_at FROM sluice.webhook_deliveries d
        WHERE d.state = 'pending' AND d.due_at <= v_now AND d.target <> ALL (p_busy)
        ORDER BY d.due_at LIMIT 1000
    ), chosen AS MATERIALIZED (
        -- A target that is slow or gone takes no more than its share of what is sent at once.
        SELECT r.id FROM (
            SELECT d.id, d.due_at, row_number() OVER (PARTITION BY d.target ORDER BY d.due_at, d.id) AS place
            FROM due d) r
        WHERE r.place <= p_most_of_target
        ORDER BY r.due_at, r.id LIMIT p_most
    ), picked AS MATERIALIZED (
        SELECT d.id FROM sluice.webhook_deliveries d
        WHERE d.id IN (SELECT c.id FROM chosen c) AND d.state = 'pending' AND d.due_at <= v_now
        FOR UPDATE SKIP LOCKED
    )
    UPDATE sluice.webhook_deliveries d
    SET due_at = v_now + make_interval(secs => p_lease_ms / 1000.0), lease_id = p_lease, tries = d.tries + 1,
        last_try_at = v_now
    FROM picked p WHERE d.id = p.id
    RETURNING d.id, d.job_id, d.generation, d.tenant, d.url, d.target, d.job_state, d.created_at, d.tries;
END $$;
COMMENT ON FUNCTION sluice.webhook_deliveries_lease(uuid, integer, integer, bigint[], integer) IS
    'Leases deliveries that are due, at most so many of one target and none of the busy ones; whoever dies with a lease leaves it to run out.';
REVOKE ALL ON FUNCTION sluice.webhook_deliveries_lease(uuid, integer, integer, bigint[], integer) FROM PUBLIC;

CREATE FUNCTION sluice.webhook_target_disable(p_tenant text, p_url text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    INSERT INTO sluice.webhook_targets (tenant, url, disabled_at) VALUES (p_tenant, p_url, v_now)
    ON CONFLICT DO NOTHING;
    WITH picked AS MATERIALIZED (
        SELECT d.id FROM sluice.webhook_deliveries d
        WHERE d.target = hashtextextended(p_tenant || ' ' || p_url, 0) AND d.state = 'pending'
          AND d.tenant = p_tenant AND d.url = p_url
        -- One that is tried just now learns it by its own answer.
        FOR UPDATE SKIP LOCKED
    )
    UPDATE sluice.webhook_deliveries d
    SET state = 'disabled', problem = 'the target answered 410', ended_at = v_now
    FROM picked p WHERE d.id = p.id;
END $$;
COMMENT ON FUNCTION sluice.webhook_target_disable(text, text) IS
    'Notes that a target wants no more, and gives up what is still to be told there.';
REVOKE ALL ON FUNCTION sluice.webhook_target_disable(text, text) FROM PUBLIC;

CREATE FUNCTION sluice.webhook_target_resume(p_tenant text, p_url text, p_since timestamptz) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_count bigint;
BEGIN
    DELETE FROM sluice.webhook_targets t WHERE t.tenant = p_tenant AND t.url = p_url;
    UPDATE sluice.webhook_deliveries d
    SET state = 'pending', due_at = v_now, tries = 0, lease_id = NULL, ended_at = NULL
    WHERE d.target = hashtextextended(p_tenant || ' ' || p_url, 0) AND d.state IN ('failed', 'disabled')
      AND d.tenant = p_tenant AND d.url = p_url AND d.created_at >= p_since;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
COMMENT ON FUNCTION sluice.webhook_target_resume(text, text, timestamptz) IS
    'Tells a target again: what comes, and what was given up since then. Returns how many those are.';
REVOKE ALL ON FUNCTION sluice.webhook_target_resume(text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION sluice.webhooks_forget(p_keep interval, p_limit integer) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_before uuid := sluice.uuid_floor(clock_timestamp() - p_keep);
    v_deliveries bigint;
    v_webhooks bigint;
BEGIN
    DELETE FROM sluice.webhook_deliveries d WHERE d.id IN (
        SELECT o.id FROM sluice.webhook_deliveries o
        WHERE o.id < v_before AND o.state <> 'pending'
        ORDER BY o.id LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_deliveries = ROW_COUNT;
    -- A webhook lives as long as its job, which may have been scheduled for years ahead.
    DELETE FROM sluice.webhooks w WHERE w.job_id IN (
        SELECT o.job_id FROM sluice.webhooks o
        WHERE o.job_id < v_before AND NOT EXISTS (SELECT FROM sluice.jobs j WHERE j.id = o.job_id)
        ORDER BY o.job_id LIMIT p_limit FOR UPDATE OF o SKIP LOCKED);
    GET DIAGNOSTICS v_webhooks = ROW_COUNT;
    RETURN v_deliveries + v_webhooks;
END $$;
COMMENT ON FUNCTION sluice.webhooks_forget(interval, integer) IS
    'Removes deliveries that ended longer ago, and webhooks of jobs that are gone; so many of each at most. Returns how many.';
REVOKE ALL ON FUNCTION sluice.webhooks_forget(interval, integer) FROM PUBLIC;

REVOKE ALL ON sluice.webhooks, sluice.webhook_deliveries, sluice.webhook_targets FROM PUBLIC;
-- Nobody but the owner is shown a row of them.
ALTER TABLE sluice.webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE sluice.webhook_deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE sluice.webhook_targets ENABLE ROW LEVEL SECURITY;
