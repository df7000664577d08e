-- A job that came back is looked up among those that did. A fresh one (line 1) is written with its row in jobs, deleted by
-- whatever moves it on, and never written again: the constraint on sluice.ready says so. Should a statement copy one, the
-- copy is refused at its next move.

CREATE OR REPLACE FUNCTION sluice.refuse_second_place() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
DECLARE
    v_job uuid;
    v_place text;
BEGIN
    -- A settle that only succeeds writes no row to ready or held: then there is nothing to look up.
    IF NOT EXISTS (SELECT FROM written) THEN
        RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'ready' THEN
        -- Nor does a submit, whose transaction may be long: it must not hold locks on places that it never looks at.
        IF NOT EXISTS (SELECT FROM written n WHERE n.lease_no > 0 OR n.generation > 1) THEN
            RETURN NULL;
        END IF;
        SELECT n.job_id, p.place INTO v_job, v_place
        FROM written n
        CROSS JOIN LATERAL (
            SELECT 'running' AS place FROM sluice.running r WHERE r.job_id = n.job_id
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = n.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = n.job_id AND d.generation >= n.generation
            LIMIT 1) p
        WHERE n.lease_no > 0 OR n.generation > 1
        LIMIT 1;
    ELSIF TG_TABLE_NAME = 'running' THEN
        SELECT n.job_id, p.place INTO v_job, v_place
        FROM written n
        CROSS JOIN LATERAL (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = n.job_id AND r.line = 0
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = n.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = n.job_id AND d.generation >= n.generation
            LIMIT 1) p
        LIMIT 1;
    ELSIF TG_TABLE_NAME = 'held' THEN
        SELECT n.job_id, p.place INTO v_job, v_place
        FROM written n
        CROSS JOIN LATERAL (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = n.job_id AND r.line = 0
            UNION ALL SELECT 'running' FROM sluice.running r WHERE r.job_id = n.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = n.job_id AND d.generation >= n.generation
            LIMIT 1) p
        LIMIT 1;
    ELSE
        SELECT n.job_id, p.place INTO v_job, v_place
        FROM written n
        CROSS JOIN LATERAL (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = n.job_id AND r.line = 0
            UNION ALL SELECT 'running' FROM sluice.running r WHERE r.job_id = n.job_id
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = n.job_id
            LIMIT 1) p
        LIMIT 1;
    END IF;
    IF v_job IS NOT NULL THEN
        RAISE EXCEPTION 'job % can not be written to % while it is %', v_job, TG_TABLE_NAME, v_place
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_stands_in_one_place';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sluice.refuse_second_place() IS
    'Refuses a statement that would make a job stand in two places, or an ended generation live again.';
