-- A job with two crashes behind it is a suspect, and runs in a child process where its worker has children. Such a worker's
-- death says nothing about the suspects that it held: something else brought it down. So they go back and not to held,
-- or a second poison would have jobs held that merely shared a process with it. Each of these losses may repeat a call
-- that was paid for, so there is an end to them, too: the tenth crash of a generation holds the job.

ALTER TABLE sluice.incarnations ADD COLUMN isolates_suspects boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN sluice.incarnations.isolates_suspects IS
    'True: it runs jobs with two crashes behind them in a child process each, so that its own death is not their doing.';

CREATE OR REPLACE FUNCTION sluice.expire_leases(p_incarnation uuid, p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz;
    v_moved integer;
    -- Crashes behind a job with which one more holds it.
    v_last_crash integer;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    SELECT CASE WHEN i.isolates_suspects THEN 9 ELSE 2 END INTO v_last_crash
    FROM sluice.incarnations i WHERE i.id = p_incarnation;
    v_last_crash := coalesce(v_last_crash, 2);
    WITH picked AS MATERIALIZED (
        SELECT r.job_id, r.lease_id FROM sluice.running r
        WHERE r.incarnation_id = p_incarnation
        ORDER BY r.job_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sluice.running r USING picked p
        WHERE r.job_id = p.job_id AND r.lease_id = p.lease_id
        RETURNING r.*
    ), ended AS (
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, error_class, error_message, incarnation_id,
             begun_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'lost', v_now, 'lease_lost',
               'the worker that held the lease stopped beating', g.incarnation_id, g.leased_at
        FROM gone g
        -- One bad row must not stop the rescue of all others.
        ON CONFLICT DO NOTHING
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, v_now, g.job_id, g.generation, g.lease_no, g.tries, g.crashes + 1,
               g.refusals, g.hold_on_unknown, g.deadline
        FROM gone g WHERE NOT g.hold_on_unknown AND g.crashes < v_last_crash
    ), kept AS (
        INSERT INTO sluice.held
            (job_id, lane_id, priority, generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline,
             reason, held_at)
        SELECT g.job_id, g.lane_id, g.priority, g.generation, g.lease_no, g.tries, g.crashes + 1, g.refusals,
               g.hold_on_unknown, g.deadline,
               CASE WHEN g.crashes >= v_last_crash THEN 'poison' ELSE 'unknown_outcome' END::sluice.hold_reason, v_now
        FROM gone g WHERE g.hold_on_unknown OR g.crashes >= v_last_crash
    )
    SELECT count(*) INTO v_moved FROM gone;

    WITH gone AS (
        DELETE FROM sluice.cancelled_leases c WHERE c.incarnation_id = p_incarnation RETURNING c.*
    )
    INSERT INTO sluice.ledger_ended
        (job_id, lease_id, generation, lease_no, outcome, ended_at, error_class, error_message, incarnation_id,
         begun_at)
    SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'lost', v_now, 'lease_lost',
           'the worker that held the lease stopped beating', g.incarnation_id, coalesce(g.begun_at, g.cancelled_at)
    FROM gone g
    ON CONFLICT DO NOTHING;
    RETURN v_moved;
END $$;
COMMENT ON FUNCTION sluice.expire_leases(uuid, integer) IS
    'Ends the leases of a dead incarnation: outcome lost, one crash more; back to the queue, or held where the job says so or crashed three times (ten, where the incarnation isolated suspects). Returns how many leases ended.';
