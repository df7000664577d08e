-- Leases that are lost or handed back give back what they held of limits.

CREATE OR REPLACE FUNCTION sluice.lose_leases(p_jobs uuid[], p_leases uuid[], p_now timestamptz, p_isolates boolean)
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
    ), changed AS (
        -- The call may have been sent: only the slot comes back.
        INSERT INTO sluice.limit_changes (limit_id, xid, amount)
        SELECT l.id, pg_current_xact_id(), -count(*)
        FROM gone g CROSS JOIN LATERAL unnest(g.limit_ids) AS l(id)
        WHERE g.limit_ids IS NOT NULL AND l.id & 3 = 0
        GROUP BY l.id
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
    ), changed AS (
        INSERT INTO sluice.limit_changes (limit_id, xid, amount)
        SELECT l.id, pg_current_xact_id(), -count(*)
        FROM gone g CROSS JOIN LATERAL unnest(g.limit_ids) AS l(id)
        WHERE g.limit_ids IS NOT NULL AND l.id & 3 = 0
        GROUP BY l.id
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

CREATE OR REPLACE FUNCTION sluice.hand_back(p_incarnation uuid, p_job_ids uuid[], p_lease_ids uuid[]) RETURNS integer
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
    ), changed AS (
        -- Nothing was sent: all of it comes back.
        INSERT INTO sluice.limit_changes (limit_id, xid, leased_at, amount)
        SELECT l.id, pg_current_xact_id(), CASE WHEN l.id & 3 <> 0 THEN g.leased_at END,
               -sum(CASE WHEN l.id & 3 = 2 THEN g.reserved_tokens ELSE 1 END)
        FROM gone g CROSS JOIN LATERAL unnest(g.limit_ids) AS l(id)
        WHERE g.limit_ids IS NOT NULL
        GROUP BY l.id, 3
    ), ended AS (
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, incarnation_id, begun_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'not_sent', v_now, g.incarnation_id, g.leased_at
        FROM gone g
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
    ), changed AS (
        -- Nothing was sent: all of it comes back.
        INSERT INTO sluice.limit_changes (limit_id, xid, leased_at, amount)
        SELECT l.id, pg_current_xact_id(), CASE WHEN l.id & 3 <> 0 THEN g.begun_at END,
               -sum(CASE WHEN l.id & 3 = 2 THEN g.reserved_tokens ELSE 1 END)
        FROM gone g CROSS JOIN LATERAL unnest(g.limit_ids) AS l(id)
        WHERE g.limit_ids IS NOT NULL
        GROUP BY l.id, 3
    )
    INSERT INTO sluice.ledger_ended
        (job_id, lease_id, generation, lease_no, outcome, ended_at, incarnation_id, begun_at)
    SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'not_sent', v_now, g.incarnation_id,
           coalesce(g.begun_at, g.cancelled_at)
    FROM gone g
    ON CONFLICT DO NOTHING;
    RETURN v_moved;
END $$;
