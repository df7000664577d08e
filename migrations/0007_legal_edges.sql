-- The edges of the state machine, held by the database itself: whatever statement writes a row into one of the places
-- where a job can stand, the job must not stand in another, and a generation that has ended must not live again.
-- Checked once a statement over all the rows it wrote. A fresh job (line 1, first generation, never leased) can stand
-- nowhere else, since its id was made with it.

CREATE FUNCTION sluice.refuse_second_place() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET plan_cache_mode = force_generic_plan
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
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = n.job_id
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = n.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = n.job_id AND d.generation >= n.generation
            LIMIT 1) p
        LIMIT 1;
    ELSIF TG_TABLE_NAME = 'held' THEN
        SELECT n.job_id, p.place INTO v_job, v_place
        FROM written n
        CROSS JOIN LATERAL (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = n.job_id
            UNION ALL SELECT 'running' FROM sluice.running r WHERE r.job_id = n.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = n.job_id AND d.generation >= n.generation
            LIMIT 1) p
        LIMIT 1;
    ELSE
        SELECT n.job_id, p.place INTO v_job, v_place
        FROM written n
        CROSS JOIN LATERAL (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = n.job_id
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

CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.ready
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_second_place();
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.running
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_second_place();
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.held
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_second_place();
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.done
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_second_place();

CREATE FUNCTION sluice.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = 'rows_never_change';
END $$;
COMMENT ON FUNCTION sluice.refuse_change() IS 'Refuses an UPDATE of a table whose rows are final.';

CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.jobs
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.done
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.attempts_begun
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.attempts_ended
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.late_results
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
