-- Where a job stands is looked up for whatever can stand elsewhere, row by row, and for nothing else. A row of running
-- by its first lease, and an end that a settle wrote, are left out, since both come from a row that the same statement
-- deleted. The first has its only source in the row that its submit wrote; should a statement copy that row, the
-- copy's lease is refused while the job runs, and its end by the key of sluice.done. Looking all of them up, from a
-- copy of all rows that a statement wrote, cost a quarter of leasing and settling.

CREATE FUNCTION sluice.refuse_second_place_of_row() RETURNS trigger
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
    v_place text;
BEGIN
    IF TG_ARGV[0] = 'running' THEN
        SELECT p.place INTO v_place FROM (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = NEW.job_id AND r.line = 0
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = NEW.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = NEW.job_id AND d.generation >= NEW.generation
            LIMIT 1) p;
    ELSE
        SELECT p.place INTO v_place FROM (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = NEW.job_id AND r.line = 0
            UNION ALL SELECT 'running' FROM sluice.running r WHERE r.job_id = NEW.job_id
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = NEW.job_id
            LIMIT 1) p;
    END IF;
    IF v_place IS NOT NULL THEN
        RAISE EXCEPTION 'job % can not be written to % while it is %', NEW.job_id, TG_ARGV[0], v_place
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_stands_in_one_place';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sluice.refuse_second_place_of_row() IS
    'Refuses a row of the named table where its job stands in another place or its generation has ended.';
REVOKE ALL ON FUNCTION sluice.refuse_second_place_of_row() FROM PUBLIC;

DROP TRIGGER job_stands_in_one_place ON sluice.running;
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.running
    FOR EACH ROW WHEN (NEW.lease_no > 1 OR NEW.generation > 1)
    EXECUTE FUNCTION sluice.refuse_second_place_of_row('running');

DROP TRIGGER job_stands_in_one_place ON sluice.done;
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.done
    FOR EACH ROW WHEN (NEW.begun_at IS NULL)
    EXECUTE FUNCTION sluice.refuse_second_place_of_row('done');
