-- Fences that gave way: a server that only reads, a client that holds what is handed back, an answer that is none before
-- one that is, and what was called and cancelled.

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
    -- Always executed, and empty where nobody may be marked: a server that only reads refuses it, whatever it would change.
    -- A scan that succeeds there would tell the brake that all is well, while no beat can be written.
    WITH silent AS MATERIALIZED (
        -- FOR UPDATE tests the beat again on the row as it is once it is locked. For what is old the clock is not
        -- read again: the server may have stood still since, and then all beats look old. A beat that lies ahead
        -- was made before the clock was set back (whoever beats has beaten anew while the brake held). It lies ahead of
        -- the clock as it is now, since beats may have come while this statement waited, and of the clock as it was when
        -- it began, since it may have been set back within the statement, where the brake knows nothing of it yet.
        SELECT i.id FROM sluice.incarnations i
        WHERE p_may_mark
          AND p_expected_start IS NOT DISTINCT FROM postmaster_start
          AND abs(extract(epoch FROM database_now - p_expected_now)) <= 1.0
          AND i.dead_at IS NULL
          AND (i.beat_at < database_now - p_ttl
               OR i.beat_at > greatest(database_now, clock_timestamp()) + p_ttl / 2)
        ORDER BY i.id LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE sluice.incarnations i SET dead_at = clock_timestamp() FROM silent s WHERE i.id = s.id;
    GET DIAGNOSTICS marked = ROW_COUNT;
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

CREATE FUNCTION sluice.hand_back_unlocked(
    p_incarnation uuid, p_job_ids uuid[], p_lease_ids uuid[], OUT moved integer, OUT locked uuid[])
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    WITH input AS MATERIALIZED (
        SELECT u.job, u.lease FROM unnest(p_job_ids, p_lease_ids) AS u(job, lease)
    ), picked AS MATERIALIZED (
        SELECT r.job_id, r.lease_id FROM sluice.running r JOIN input i ON r.job_id = i.job AND r.lease_id = i.lease
        WHERE r.incarnation_id = p_incarnation
        ORDER BY r.job_id FOR UPDATE OF r SKIP LOCKED
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
    SELECT count(*) INTO moved FROM gone;
    SELECT coalesce(array_agg(r.lease_id), '{}') INTO locked
    FROM unnest(p_job_ids, p_lease_ids) AS u(job, lease)
    JOIN sluice.running r ON r.job_id = u.job AND r.lease_id = u.lease
    WHERE r.incarnation_id = p_incarnation;

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
END $$;
COMMENT ON FUNCTION sluice.hand_back_unlocked(uuid, uuid[], uuid[]) IS
    'Gives back leases whose calls were not begun: no try is spent and the jobs can run at once. Returns how many there were, and the leases that somebody holds locked, as by a cancel that is not committed: they are still there, and nobody waits for them.';
-- Programs from before wait for what is locked, but not for ever.
ALTER FUNCTION sluice.hand_back(uuid, uuid[], uuid[]) SET lock_timeout = '2s';

CREATE FUNCTION sluice.lose_cancelled(p_leases uuid[], p_now timestamptz) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_moved integer;
BEGIN
    WITH gone AS (
        DELETE FROM sluice.cancelled_leases c WHERE c.lease_id = ANY (p_leases) RETURNING c.*
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
               'the worker that held the lease stopped beating', g.incarnation_id, coalesce(g.begun_at, g.cancelled_at)
        FROM gone g
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO v_moved FROM gone;
    RETURN v_moved;
END $$;
COMMENT ON FUNCTION sluice.lose_cancelled(uuid[], timestamptz) IS
    'As sluice.lose_leases, for leases whose jobs were cancelled: what they hold of windows stays charged, since their calls may have been sent. Returns how many there were.';

CREATE OR REPLACE FUNCTION sluice.job_details(p_ids uuid[], p_with_body boolean)
    RETURNS TABLE (
        id uuid, tenant text, queue text, lane_id bigint, path text, model text, state sluice.job_state,
        hold_reason sluice.hold_reason, priority smallint, tries smallint, crashes smallint, max_attempts smallint,
        generation integer, run_at timestamptz, created_at timestamptz, started_at timestamptz,
        finished_at timestamptz, deadline timestamptz, hold_on_unknown boolean, idempotency_key text, tags jsonb,
        traceparent text, status_code smallint, body bytea, is_truncated boolean, is_assembled boolean,
        is_late boolean, is_cached boolean, request_id text, input_tokens integer, cached_input_tokens integer,
        output_tokens integer, reasoning_tokens integer, cost_nano_usd bigint, duration_ms integer,
        error_class text, error_message text, is_retryable boolean)
    -- plpgsql keeps the plan; planning over all partitions costs more than the reading.
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT j.id, j.tenant, j.queue, j.lane_id, coalesce(j.path, '/v1/chat/completions'), j.model, p.state, p.hold_reason, j.priority, p.tries,
           p.crashes, j.max_attempts, p.generation, p.run_at, j.created_at, b.begun_at, p.finished_at, j.deadline,
           j.hold_on_unknown, j.idempotency_key, j.tags, j.traceparent,
           coalesce(p.status_code, late.status_code),
           CASE WHEN p_with_body THEN coalesce(p.body, late.body) END,
           coalesce(late.is_truncated, p.is_truncated), coalesce(late.is_assembled, p.is_assembled),
           p.is_late OR late.job_id IS NOT NULL, p.is_cached,
           coalesce(late.request_id, e.request_id), coalesce(late.input_tokens, e.input_tokens),
           coalesce(late.cached_input_tokens, e.cached_input_tokens), coalesce(late.output_tokens, e.output_tokens),
           coalesce(late.reasoning_tokens, e.reasoning_tokens), coalesce(late.cost_nano_usd, e.cost_nano_usd, 0),
           coalesce(late.call_duration_ms, e.call_duration_ms),
           coalesce(p.error_class, CASE WHEN p.state IN ('queued', 'held') THEN e.error_class END),
           coalesce(p.error_message, CASE WHEN p.state IN ('queued', 'held') THEN e.error_message END),
           p.is_retryable
    FROM unnest(p_ids) WITH ORDINALITY AS i(id, ordinal)
    CROSS JOIN LATERAL (SELECT * FROM sluice.jobs j WHERE j.id = i.id LIMIT 1) j
    CROSS JOIN LATERAL (
        -- A job stands in one place; the latest generation first.
        SELECT * FROM (
            SELECT 'queued'::sluice.job_state AS state, r.generation, r.tries, r.crashes, r.key AS run_at,
                   NULL::timestamptz AS finished_at, NULL::sluice.hold_reason AS hold_reason,
                   NULL::smallint AS status_code, NULL::bytea AS body, false AS is_truncated,
                   false AS is_assembled, false AS is_late, false AS is_cached, NULL::text AS error_class,
                   NULL::text AS error_message, true AS is_retryable, NULL::uuid AS lease_id
            FROM sluice.queued r WHERE r.job_id = i.id
            UNION ALL
            SELECT 'running', r.generation, r.tries, r.crashes, NULL, NULL, NULL, NULL, NULL, false, false, false,
                   false, NULL, NULL, true, r.lease_id
            FROM sluice.running r WHERE r.job_id = i.id
            UNION ALL
            SELECT 'held', h.generation, h.tries, h.crashes, NULL, NULL, h.reason, NULL, NULL, false, false, false,
                   false, NULL, NULL, true, NULL
            FROM sluice.held h WHERE h.job_id = i.id
            UNION ALL
            SELECT d.state, d.generation, d.tries, d.crashes, NULL, d.finished_at, NULL, d.status_code, d.body,
                   d.is_truncated, d.is_assembled, d.is_late, d.is_cached, d.error_class, d.error_message,
                   d.is_retryable, d.lease_id
            FROM sluice.done d WHERE d.job_id = i.id
        ) places
        ORDER BY places.generation DESC LIMIT 1
    ) p
    LEFT JOIN LATERAL (
        SELECT b.lease_id, b.begun_at FROM sluice.attempts_begun b
        WHERE b.job_id = i.id AND b.generation = p.generation
        ORDER BY b.lease_id = p.lease_id DESC NULLS LAST, b.lease_no DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT e.* FROM sluice.attempts_ended e
        WHERE e.job_id = i.id AND e.lease_id = coalesce(p.lease_id, b.lease_id) LIMIT 1
    ) e ON true
    LEFT JOIN LATERAL (
        -- Shown where the job ended without an answer of its own; of several a success (what ended a job is one), and of
        -- those the one that ended it.
        SELECT l.* FROM sluice.late_results l
        WHERE l.job_id = i.id AND l.generation = p.generation AND p.finished_at IS NOT NULL
          AND p.body IS NULL
        ORDER BY coalesce(l.is_success, true) DESC, l.lease_id = p.lease_id DESC NULLS LAST, l.kept_at LIMIT 1
    ) late ON true
    ORDER BY i.ordinal;
END $$;

REVOKE ALL ON FUNCTION sluice.hand_back_unlocked(uuid, uuid[], uuid[]), sluice.lose_cancelled(uuid[], timestamptz) FROM PUBLIC;
