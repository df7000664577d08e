-- Expiry that nothing stops: not a row that somebody holds locked, not one that can't be moved, not the thousandth worker
-- that died with the others, and not a clock that was set back. And a pause of the server in the middle of a scan makes
-- no worker look dead: age is measured at the one moment that was compared with the caller's clock.

CREATE FUNCTION sluice.lose_leases(p_jobs uuid[], p_leases uuid[], p_now timestamptz, p_isolates boolean)
    RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_moved integer;
BEGIN
    WITH gone AS (
        DELETE FROM sluice.running r USING unnest(p_jobs, p_leases) AS p(job, lease)
        WHERE r.job_id = p.job AND r.lease_id = p.lease
        RETURNING r.*, p_isolates AND r.crashes >= 2 AS was_isolated,
            CASE WHEN p_isolates AND r.crashes >= 2 THEN r.refusals >= 19 ELSE r.crashes >= 2 END AS is_poison
    ), ended AS (
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, error_class, error_message, incarnation_id,
             begun_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'lost', p_now, 'lease_lost',
               'the worker that held the lease stopped beating', g.incarnation_id, g.leased_at
        FROM gone g
        ON CONFLICT DO NOTHING
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, p_now, g.job_id, g.generation, g.lease_no, g.tries,
               g.crashes + (NOT g.was_isolated)::integer, g.refusals + g.was_isolated::integer, g.hold_on_unknown,
               g.deadline
        FROM gone g WHERE NOT g.hold_on_unknown AND NOT g.is_poison
    ), kept AS (
        INSERT INTO sluice.held
            (job_id, lane_id, priority, generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline,
             reason, held_at)
        SELECT g.job_id, g.lane_id, g.priority, g.generation, g.lease_no, g.tries,
               g.crashes + (NOT g.was_isolated)::integer, g.refusals + g.was_isolated::integer, g.hold_on_unknown,
               g.deadline,
               CASE WHEN g.is_poison THEN 'poison' ELSE 'unknown_outcome' END::sluice.hold_reason, p_now
        FROM gone g WHERE g.hold_on_unknown OR g.is_poison
    )
    SELECT count(*) INTO v_moved FROM gone;
    RETURN v_moved;
END $$;
COMMENT ON FUNCTION sluice.lose_leases(uuid[], uuid[], timestamptz, boolean) IS
    'Ends the named leases as lost, one crash more: back to the queue, or held where the job says so or crashed three times. A suspect that was isolated has one refusal more instead, and is held with the twentieth. All of them or, with an error, none. Returns how many there were.';

CREATE OR REPLACE FUNCTION sluice.expire_leases(p_incarnation uuid, p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz;
    v_after uuid := '00000000-0000-0000-0000-000000000000';
    v_jobs uuid[];
    v_leases uuid[];
    v_moved integer := 0;
    -- The death of a worker that runs suspects apart says nothing about those that it held.
    v_isolates boolean;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    SELECT i.isolates_suspects INTO v_isolates FROM sluice.incarnations i WHERE i.id = p_incarnation;
    v_isolates := coalesce(v_isolates, false);
    WHILE v_moved < p_limit LOOP
        SELECT array_agg(p.job_id), array_agg(p.lease_id) INTO v_jobs, v_leases
        FROM (SELECT r.job_id, r.lease_id FROM sluice.running r
              WHERE r.incarnation_id = p_incarnation AND r.job_id > v_after
              ORDER BY r.job_id LIMIT p_limit - v_moved FOR UPDATE SKIP LOCKED) p;
        EXIT WHEN v_jobs IS NULL;
        v_after := v_jobs[cardinality(v_jobs)];
        BEGIN
            v_moved := v_moved + sluice.lose_leases(v_jobs, v_leases, v_now, v_isolates);
        EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
            -- One of them can't be moved: by themselves, all others can. The bad one stays where it is and is seen as
            -- an expired lease that grows old; to guess what it means would be worse.
            FOR v_at IN 1 .. cardinality(v_jobs) LOOP
                BEGIN
                    v_moved := v_moved + sluice.lose_leases(
                        v_jobs[v_at : v_at], v_leases[v_at : v_at], v_now, v_isolates);
                EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
                    NULL;
                END;
            END LOOP;
        END;
    END LOOP;

    WITH picked AS MATERIALIZED (
        SELECT c.lease_id FROM sluice.cancelled_leases c
        WHERE c.incarnation_id = p_incarnation
        ORDER BY c.lease_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sluice.cancelled_leases c USING picked p WHERE c.lease_id = p.lease_id RETURNING c.*
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
    'Ends the leases of a dead incarnation, so many at most, in the order of their jobs; passes over those that somebody holds locked or that can not be moved. Outcome lost, one crash more (for a suspect that the incarnation had isolated, one refusal); held at the third crash, or the twentieth refusal. Returns how many ended.';

CREATE OR REPLACE FUNCTION sluice.reap(
    p_ttl interval, p_may_mark boolean, p_expected_now timestamptz, p_expected_start timestamptz, p_limit integer)
    RETURNS TABLE (database_now timestamptz, postmaster_start timestamptz, marked integer, leases integer)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_seqscan = off
    SET jit = off
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
        WITH silent AS MATERIALIZED (
            -- FOR UPDATE tests the beat again on the row as it is once it is locked. For what is old the clock is not
            -- read again: the server may have stood still since, and then all beats look old. A beat that lies ahead
            -- was made before the clock was set back (whoever beats has beaten anew while the brake held); that is
            -- asked of the clock as it is now, since beats may have come while this statement waited.
            SELECT i.id FROM sluice.incarnations i
            WHERE i.dead_at IS NULL
              AND (i.beat_at < database_now - p_ttl OR i.beat_at > clock_timestamp() + p_ttl / 2)
            ORDER BY i.id LIMIT p_limit FOR UPDATE SKIP LOCKED
        )
        UPDATE sluice.incarnations i SET dead_at = clock_timestamp() FROM silent s WHERE i.id = s.id;
        GET DIAGNOSTICS marked = ROW_COUNT;
    END IF;
    FOR v_incarnation IN
        -- One look for each of the dead: as a hash of all leases, this would walk over every dead row of theirs.
        SELECT i.id FROM sluice.incarnations i
        CROSS JOIN LATERAL (
            SELECT FROM sluice.running r WHERE r.incarnation_id = i.id
            UNION ALL
            SELECT FROM sluice.cancelled_leases c WHERE c.incarnation_id = i.id
            LIMIT 1) l
        WHERE i.dead_at IS NOT NULL
        ORDER BY i.dead_at, i.id LIMIT 10000
    LOOP
        leases := leases + sluice.expire_leases(v_incarnation, p_limit - leases);
        EXIT WHEN leases >= p_limit;
    END LOOP;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION sluice.reap(interval, boolean, timestamptz, timestamptz, integer) IS
    'Marks incarnations dead whose beat is older than the TTL (only where the brake is off and the clocks agree) and ends the leases of the dead; so many of each at most.';

CREATE FUNCTION sluice.expire_orphans(p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET jit = off
AS $$
DECLARE
    v_incarnation uuid;
    v_moved integer := 0;
BEGIN
    FOR v_incarnation IN
        SELECT l.incarnation_id
        FROM (SELECT r.incarnation_id FROM sluice.running r
              UNION SELECT c.incarnation_id FROM sluice.cancelled_leases c) l
        WHERE NOT EXISTS (SELECT FROM sluice.incarnations i WHERE i.id = l.incarnation_id)
        ORDER BY l.incarnation_id LIMIT 1000
    LOOP
        v_moved := v_moved + sluice.expire_leases(v_incarnation, p_limit - v_moved);
        EXIT WHEN v_moved >= p_limit;
    END LOOP;
    RETURN v_moved;
END $$;
COMMENT ON FUNCTION sluice.expire_orphans(integer) IS
    'Ends leases whose incarnation has no row any more, so many at most: nobody can beat for them, and no scan of the reaper finds them. Reads all leases: for once an hour.';

REVOKE ALL ON FUNCTION sluice.lose_leases(uuid[], uuid[], timestamptz, boolean), sluice.expire_orphans(integer) FROM PUBLIC;
