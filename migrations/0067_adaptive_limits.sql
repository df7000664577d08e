-- Limits that the provider does not tell: so many calls at once as it is believed to take. A belief moves between a floor and
-- a ceiling. Workers decide how (policy::aimd) and write it down here; of two that decide by the same belief, one gets
-- through.
--
-- As of all that changes at a rate, no row is updated: a belief is replaced by the next version, found from its highest end.

ALTER TABLE sluice.limits ADD COLUMN floor bigint,
    ADD CONSTRAINT limits_floor_is_of_slots CHECK (floor IS NULL OR (kind = 'concurrency' AND floor >= 1));
COMMENT ON COLUMN sluice.limits.floor IS 'The floor, where the provider does not tell the limit; the cap is the ceiling then, and what counts is in sluice.limit_beliefs. Null: it is told.';

CREATE TABLE sluice.limit_beliefs (
    limit_id bigint NOT NULL,
    version bigint NOT NULL,
    cap bigint NOT NULL,
    refused_at bigint,
    raises integer NOT NULL,
    falls integer NOT NULL,
    because text NOT NULL,
    changed_at timestamptz NOT NULL,
    lowered_at timestamptz,
    CONSTRAINT limit_beliefs_pkey PRIMARY KEY (limit_id, version),
    CONSTRAINT limit_beliefs_cap_is_positive CHECK (cap >= 1),
    CONSTRAINT limit_beliefs_because_is_known CHECK (because IN ('begun', 'raised', 'refused', 'slow'))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE sluice.limit_beliefs ENABLE ROW LEVEL SECURITY;

COMMENT ON TABLE sluice.limit_beliefs IS 'How many calls at once a provider is believed to take that does not tell: one row for each limit with a floor.';
COMMENT ON COLUMN sluice.limit_beliefs.limit_id IS 'The limit.';
COMMENT ON COLUMN sluice.limit_beliefs.version IS 'Rises with each change.';
COMMENT ON COLUMN sluice.limit_beliefs.cap IS 'So many.';
COMMENT ON COLUMN sluice.limit_beliefs.refused_at IS 'The cap under which calls were refused last, or were slow; null: never.';
COMMENT ON COLUMN sluice.limit_beliefs.raises IS 'Raises past that in a row.';
COMMENT ON COLUMN sluice.limit_beliefs.falls IS 'Falls in a row.';
COMMENT ON COLUMN sluice.limit_beliefs.because IS 'begun: nothing was tried yet. raised: all of it was in use, and nothing was refused. refused: the provider refused calls. slow: answers took much longer than usual.';
COMMENT ON COLUMN sluice.limit_beliefs.changed_at IS 'When, by the database clock.';
COMMENT ON COLUMN sluice.limit_beliefs.lowered_at IS 'When it was lowered last: refusals of calls that were leased before say nothing new. Null: never.';

CREATE FUNCTION sluice.limit_believe(
    p_limit bigint, p_seen bigint, p_cap bigint, p_refused_at bigint, p_raises integer, p_falls integer, p_because text)
    RETURNS TABLE (version bigint, cap bigint, refused_at bigint, raises integer, falls integer, because text,
                   changed_ms bigint, lowered_ms bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    INSERT INTO sluice.limit_beliefs
        (limit_id, version, cap, refused_at, raises, falls, because, changed_at, lowered_at)
    SELECT l.id, p_seen + 1, p_cap, p_refused_at, p_raises, p_falls, p_because, v_now,
           CASE WHEN p_because IN ('refused', 'slow') THEN v_now ELSE b.lowered_at END
    FROM sluice.limits l
    LEFT JOIN LATERAL (
        SELECT * FROM sluice.limit_beliefs b WHERE b.limit_id = l.id ORDER BY b.version DESC LIMIT 1) b ON true
    WHERE l.id = p_limit AND l.floor IS NOT NULL AND coalesce(b.version, 0) = p_seen
    -- Of two that saw the same version, the key lets one through.
    ON CONFLICT ON CONSTRAINT limit_beliefs_pkey DO NOTHING;
    IF FOUND THEN
        DELETE FROM sluice.limit_beliefs b WHERE b.limit_id = p_limit AND b.version = p_seen;
    END IF;
    RETURN QUERY
    SELECT b.version, b.cap, b.refused_at, b.raises, b.falls, b.because,
           greatest(0, extract(epoch FROM clock_timestamp() - b.changed_at) * 1000)::bigint,
           CASE WHEN b.lowered_at IS NOT NULL
                THEN greatest(0, extract(epoch FROM clock_timestamp() - b.lowered_at) * 1000)::bigint END
    FROM sluice.limit_beliefs b WHERE b.limit_id = p_limit ORDER BY b.version DESC LIMIT 1;
END $$;
COMMENT ON FUNCTION sluice.limit_believe(bigint, bigint, bigint, bigint, integer, integer, text) IS
    'Writes down a belief about a limit that is not told, if the newest is still the given version (0: there is none). Returns the newest, whoever wrote it, and how long ago it was changed and lowered; nothing where the limit is told or not declared.';
REVOKE ALL ON FUNCTION sluice.limit_believe(bigint, bigint, bigint, bigint, integer, integer, text) FROM PUBLIC;
