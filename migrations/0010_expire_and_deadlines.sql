-- What the maintenance loops do: dead workers, hand-backs, deadlines. Each takes no input but bounds, can be run by any
-- number of schedulers at once, and passes over rows that somebody else holds.

-- Moves the leases of an incarnation that is marked dead, a page at a time.
CREATE FUNCTION sluice.expire_leases(p_incarnation uuid, p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz;
    v_moved integer;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    WITH picked AS MATERIALIZED (
        SELECT r.job_id, r.lease_id FROM sluice.running r
        WHERE r.incarnation_id = p_incarnation
        ORDER BY r.job_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sluice.running r USING picked p
        WHERE r.job_id = p.job_id AND r.lease_id = p.lease_id
        RETURNING r.*
    ), ended AS (
        INSERT INTO sluice.attempts_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, error_class, error_message)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'lost', v_now, 'lease_lost',
               'the worker that held the lease stopped beating'
        FROM gone g
        -- One bad row must not stop the rescue of all others.
        ON CONFLICT DO NOTHING
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, v_now, g.job_id, g.generation, g.lease_no, g.tries, g.crashes + 1,
               g.refusals, g.hold_on_unknown, g.deadline
        FROM gone g WHERE NOT g.hold_on_unknown AND g.crashes < 2
    ), kept AS (
        INSERT INTO sluice.held
            (job_id, lane_id, priority, generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline,
             reason, held_at)
        SELECT g.job_id, g.lane_id, g.priority, g.generation, g.lease_no, g.tries, g.crashes + 1, g.refusals,
               g.hold_on_unknown, g.deadline,
               CASE WHEN g.crashes >= 2 THEN 'poison' ELSE 'unknown_outcome' END::sluice.hold_reason, v_now
        FROM gone g WHERE g.hold_on_unknown OR g.crashes >= 2
    )
    SELECT count(*) INTO v_moved FROM gone;

    WITH gone AS (
        DELETE FROM sluice.cancelled_leases c WHERE c.incarnation_id = p_incarnation RETURNING c.*
    )
    INSERT INTO sluice.attempts_ended
        (job_id, lease_id, generation, lease_no, outcome, ended_at, error_class, error_message)
    SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'lost', v_now, 'lease_lost',
           'the worker that held the lease stopped beating'
    FROM gone g
    ON CONFLICT DO NOTHING;
    RETURN v_moved;
END $$;
COMMENT ON FUNCTION sluice.expire_leases(uuid, integer) IS
    'Ends the leases of a dead incarnation: outcome lost, one crash more; back to the queue, or held where the job says so or crashed three times. Returns how many leases ended.';

-- One scan of the reaper. p_may_mark false: the brake holds, and only leases of incarnations that are dead already end.
-- p_expected_now and p_expected_start: the database time and postmaster start that the caller expects; where either
-- disagrees, nothing is marked, since a clock that jumped or a server that was away says nothing about workers.
CREATE FUNCTION sluice.reap(
    p_ttl interval, p_may_mark boolean, p_expected_now timestamptz, p_expected_start timestamptz, p_limit integer)
    RETURNS TABLE (database_now timestamptz, postmaster_start timestamptz, marked integer, leases integer)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_incarnation uuid;
BEGIN
    database_now := clock_timestamp();
    postmaster_start := pg_postmaster_start_time();
    marked := 0;
    leases := 0;
    IF p_may_mark
       AND p_expected_start IS NOT DISTINCT FROM postmaster_start
       AND abs(extract(epoch FROM database_now - p_expected_now)) <= 1.0 THEN
        FOR v_incarnation IN
            -- FOR UPDATE tests the beat's age again on the row as it is once it is locked.
            SELECT i.id FROM sluice.incarnations i
            WHERE i.dead_at IS NULL AND i.beat_at < clock_timestamp() - p_ttl
            ORDER BY i.id LIMIT 100 FOR UPDATE SKIP LOCKED
        LOOP
            UPDATE sluice.incarnations SET dead_at = clock_timestamp() WHERE id = v_incarnation AND dead_at IS NULL;
            marked := marked + 1;
        END LOOP;
    END IF;
    FOR v_incarnation IN
        SELECT i.id FROM sluice.incarnations i
        WHERE i.dead_at IS NOT NULL
          AND (EXISTS (SELECT FROM sluice.running r WHERE r.incarnation_id = i.id)
               OR EXISTS (SELECT FROM sluice.cancelled_leases c WHERE c.incarnation_id = i.id))
        ORDER BY i.dead_at LIMIT 100
    LOOP
        leases := leases + sluice.expire_leases(v_incarnation, p_limit - leases);
        EXIT WHEN leases >= p_limit;
    END LOOP;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION sluice.reap(interval, boolean, timestamptz, timestamptz, integer) IS
    'Marks incarnations dead whose beat is older than the TTL (only where the brake is off and the clocks agree) and ends the leases of the dead, so many at most.';

CREATE FUNCTION sluice.hand_back(p_incarnation uuid, p_job_ids uuid[], p_lease_ids uuid[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz;
    v_moved integer;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    WITH input AS MATERIALIZED (
        SELECT u.job, u.lease FROM unnest(p_job_ids, p_lease_ids) AS u(job, lease)
    ), picked AS MATERIALIZED (
        SELECT r.job_id, r.lease_id FROM sluice.running r JOIN input i ON r.job_id = i.job AND r.lease_id = i.lease
        WHERE r.incarnation_id = p_incarnation
        ORDER BY r.job_id FOR UPDATE OF r
    ), gone AS (
        DELETE FROM sluice.running r USING picked p
        WHERE r.job_id = p.job_id AND r.lease_id = p.lease_id
        RETURNING r.*
    ), ended AS (
        INSERT INTO sluice.attempts_ended (job_id, lease_id, generation, lease_no, outcome, ended_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'not_sent', v_now FROM gone g
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, v_now, g.job_id, g.generation, g.lease_no, g.tries, g.crashes, g.refusals,
               g.hold_on_unknown, g.deadline
        FROM gone g
    )
    SELECT count(*) INTO v_moved FROM gone;

    -- A job that was cancelled meanwhile has ended; only its slot is given back.
    WITH gone AS (
        DELETE FROM sluice.cancelled_leases c
        WHERE c.incarnation_id = p_incarnation AND c.lease_id = ANY (p_lease_ids)
        RETURNING c.*
    )
    INSERT INTO sluice.attempts_ended (job_id, lease_id, generation, lease_no, outcome, ended_at)
    SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'not_sent', v_now FROM gone g
    ON CONFLICT DO NOTHING;
    RETURN v_moved;
END $$;
COMMENT ON FUNCTION sluice.hand_back(uuid, uuid[], uuid[]) IS
    'Gives back leases whose call was not begun: outcome not_sent, no try spent, back at once; of a cancelled job, the slot alone. Returns how many jobs came back.';

CREATE FUNCTION sluice.deadlines_end(p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_from_ready integer;
    v_from_held integer;
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT r.job_id FROM sluice.ready r WHERE r.deadline <= v_now
        ORDER BY r.deadline LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sluice.ready r USING picked p WHERE r.job_id = p.job_id RETURNING r.*
    ), finished AS (
        INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries, crashes,
                                 error_class, error_message)
        SELECT g.job_id, g.generation, 'failed', g.lane_id, g.priority, v_now, g.lease_no, g.tries, g.crashes,
               'deadline_exceeded', 'the deadline passed while the job waited'
        FROM gone g
    )
    SELECT count(*) INTO v_from_ready FROM gone;
    WITH picked AS MATERIALIZED (
        SELECT h.job_id FROM sluice.held h WHERE h.deadline <= v_now
        ORDER BY h.deadline LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sluice.held h USING picked p WHERE h.job_id = p.job_id RETURNING h.*
    ), finished AS (
        INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries, crashes,
                                 error_class, error_message)
        SELECT g.job_id, g.generation, 'failed', g.lane_id, g.priority, v_now, g.lease_no, g.tries, g.crashes,
               'deadline_exceeded', 'the deadline passed while the job was held'
        FROM gone g
    )
    SELECT count(*) INTO v_from_held FROM gone;
    RETURN v_from_ready + v_from_held;
END $$;
COMMENT ON FUNCTION sluice.deadlines_end(integer) IS
    'Fails queued and held jobs whose deadline has passed, so many of each at most; returns how many.';
