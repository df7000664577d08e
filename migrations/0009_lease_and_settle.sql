-- Leasing and settling: the hot path. Both are one statement for the caller.

CREATE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[], p_total integer)
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    -- Read once: a volatile clock in WHERE is a filter and no bound of the index scan.
    v_now timestamptz := clock_timestamp();
    v_left integer := p_total;
    v_want integer;
    v_got integer;
    v_grant record;
BEGIN
    IF NOT EXISTS (SELECT FROM sluice.incarnations i WHERE i.id = p_incarnation AND i.dead_at IS NULL) THEN
        RAISE EXCEPTION 'incarnation % is dead', p_incarnation USING ERRCODE = 'SL001';
    END IF;
    FOR v_grant IN
        SELECT g.lane, g.priority, g.most
        FROM unnest(p_lanes, p_priorities, p_limits) WITH ORDINALITY AS g(lane, priority, most, ordinal)
        LEFT JOIN sluice.lanes l ON l.id = g.lane
        LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
        WHERE q.paused_at IS NULL
        ORDER BY g.ordinal
    LOOP
        v_want := least(v_grant.most, v_left);
        FOR v_line IN 0 .. 1 LOOP
            EXIT WHEN v_want <= 0;
            -- Most lines are empty, and the statement below costs more than a look, even where it finds nothing.
            PERFORM FROM sluice.ready r
            WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = v_line AND r.key <= v_now
            ORDER BY r.key LIMIT 1;
            CONTINUE WHEN NOT FOUND;
            RETURN QUERY
            WITH picked AS MATERIALIZED (
                SELECT r.job_id
                FROM sluice.ready r
                WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = v_line
                  AND r.key <= v_now AND (r.deadline IS NULL OR r.deadline > v_now)
                ORDER BY r.key, r.job_id
                LIMIT v_want
                FOR UPDATE SKIP LOCKED
            ), taken AS (
                -- By nothing but the id: with the lane named too, a plan made while the line was short walks all of
                -- the line for each row.
                DELETE FROM sluice.ready r USING picked p WHERE r.job_id = p.job_id RETURNING r.*
            ), fresh AS MATERIALIZED (
                -- The one source of all that follows: joining what was inserted to what was taken would compare each
                -- row with each.
                SELECT t.*, gen_random_uuid() AS lease_id, t.lease_no + 1 AS this_lease_no FROM taken t
            ), leased AS (
                INSERT INTO sluice.running
                    (job_id, lease_id, incarnation_id, lane_id, priority, generation, lease_no, tries, crashes,
                     refusals, hold_on_unknown, deadline, leased_at)
                SELECT f.job_id, f.lease_id, p_incarnation, f.lane_id, f.priority, f.generation, f.this_lease_no,
                       f.tries, f.crashes, f.refusals, f.hold_on_unknown, f.deadline, v_now
                FROM fresh f
            ), begun AS (
                INSERT INTO sluice.attempts_begun
                    (job_id, lease_id, generation, lease_no, incarnation_id, begun_at)
                SELECT f.job_id, f.lease_id, f.generation, f.this_lease_no, p_incarnation, v_now FROM fresh f
            )
            SELECT f.job_id, f.lease_id, f.lane_id, f.generation, f.this_lease_no, f.tries, f.crashes, f.refusals,
                   j.max_attempts, f.hold_on_unknown, f.priority, j.tenant, j.queue, j.model, j.path,
                   (extract(epoch FROM f.deadline - v_now) * 1000)::bigint,
                   greatest(0, (extract(epoch FROM v_now - f.key) * 1000)::bigint), j.traceparent, j.body
            FROM fresh f
            CROSS JOIN LATERAL (SELECT * FROM sluice.jobs j WHERE j.id = f.job_id LIMIT 1) j;
            GET DIAGNOSTICS v_got = ROW_COUNT;
            v_want := v_want - v_got;
            v_left := v_left - v_got;
        END LOOP;
        EXIT WHEN v_left <= 0;
    END LOOP;
END $$;
COMMENT ON FUNCTION sluice.lease(uuid, bigint[], smallint[], integer[], integer) IS
    'Leases jobs of the named (lane, priority) pairs in their order, so many of each at most and so many in all; each with its begun row on the ledger. Raises SL001 for a dead incarnation.';

-- Which (lane, priority) pairs have work: a loose index scan, one probe an entry.
CREATE FUNCTION sluice.board(p_tenant text, p_queues text[])
    RETURNS TABLE (lane_id bigint, tenant text, queue text, model text, priority smallint, age_ms bigint,
                   due_in_ms bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_lane bigint := -9223372036854775808;
    v_priority smallint := -1;
    v_known record;
    v_returned timestamptz;
    v_fresh timestamptz;
BEGIN
    LOOP
        SELECT r.lane_id, r.priority INTO v_lane, v_priority
        FROM sluice.ready r
        WHERE (r.lane_id, r.priority) > (v_lane, v_priority)
        ORDER BY r.lane_id, r.priority
        LIMIT 1;
        EXIT WHEN NOT FOUND;

        SELECT l.tenant, l.queue, l.model, q.paused_at INTO v_known
        FROM sluice.lanes l
        LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
        WHERE l.id = v_lane;
        IF NOT FOUND THEN
            INSERT INTO sluice.lanes (id, tenant, queue, model)
            SELECT j.lane_id, j.tenant, j.queue, j.model
            FROM (SELECT r.job_id FROM sluice.ready r WHERE r.lane_id = v_lane LIMIT 1) r
            CROSS JOIN LATERAL (SELECT * FROM sluice.jobs j WHERE j.id = r.job_id LIMIT 1) j
            ON CONFLICT DO NOTHING;
            SELECT l.tenant, l.queue, l.model, q.paused_at INTO v_known
            FROM sluice.lanes l
            LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
            WHERE l.id = v_lane;
            CONTINUE WHEN NOT FOUND;
        END IF;
        CONTINUE WHEN v_known.paused_at IS NOT NULL
                   OR (p_queues IS NOT NULL AND v_known.queue <> ALL (p_queues))
                   -- A run's own queue is worked only by whoever names it.
                   OR (p_queues IS NULL AND v_known.queue LIKE 'run:%')
                   OR (p_tenant IS NOT NULL AND v_known.tenant <> p_tenant);

        SELECT r.key INTO v_returned FROM sluice.ready r
        WHERE r.lane_id = v_lane AND r.priority = v_priority AND r.line = 0 ORDER BY r.key LIMIT 1;
        SELECT r.key INTO v_fresh FROM sluice.ready r
        WHERE r.lane_id = v_lane AND r.priority = v_priority AND r.line = 1 ORDER BY r.key LIMIT 1;
        lane_id := v_lane;
        tenant := v_known.tenant;
        queue := v_known.queue;
        model := v_known.model;
        priority := v_priority;
        age_ms := (extract(epoch FROM v_now - least(v_returned, v_fresh)) * 1000)::bigint;
        due_in_ms := NULL;
        IF v_fresh IS NULL AND v_returned > v_now THEN
            due_in_ms := ceil(extract(epoch FROM v_returned - v_now) * 1000)::bigint;
            age_ms := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION sluice.board(text, text[]) IS
    'The (lane, priority) pairs that have queued jobs and are not paused: age_ms of the oldest that can run now, or due_in_ms until the first can.';

CREATE FUNCTION sluice.settle(
    p_job_ids uuid[], p_lease_ids uuid[], p_outcomes text[], p_next text[], p_delays_ms bigint[],
    p_tries smallint[], p_refusals smallint[], p_hold_reasons text[], p_error_classes text[],
    p_error_messages text[], p_is_retryable boolean[], p_status_codes smallint[], p_bodies bytea[],
    p_is_truncated boolean[], p_is_assembled boolean[], p_input_tokens integer[], p_cached_tokens integer[],
    p_output_tokens integer[], p_reasoning_tokens integer[], p_costs bigint[], p_call_ids uuid[],
    p_upstreams text[], p_upstream_models text[], p_answered_models text[], p_request_ids text[],
    p_durations_ms integer[], p_first_bytes_ms integer[])
    RETURNS TABLE (lease_id uuid)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    RETURN QUERY
    WITH input AS MATERIALIZED (
        SELECT i.*
        FROM unnest(p_job_ids, p_lease_ids, p_outcomes, p_next, p_delays_ms, p_tries, p_refusals, p_hold_reasons,
                    p_error_classes, p_error_messages, p_is_retryable, p_status_codes, p_bodies, p_is_truncated,
                    p_is_assembled, p_input_tokens, p_cached_tokens, p_output_tokens, p_reasoning_tokens, p_costs,
                    p_call_ids, p_upstreams, p_upstream_models, p_answered_models, p_request_ids, p_durations_ms,
                    p_first_bytes_ms)
             AS i(job, lease, outcome, next, delay_ms, try_step, refusal_step, hold_reason, error_class,
                  error_message, is_retryable, status_code, body, is_truncated, is_assembled, input_tokens,
                  cached_tokens, output_tokens, reasoning_tokens, cost, call_id, upstream, upstream_model,
                  answered_model, request_id, duration_ms, first_byte_ms)
    ), gone AS (
        -- The fence. The input is in id order, and a nested loop keeps it so: two settles can't deadlock.
        DELETE FROM sluice.running r USING input i
        WHERE r.job_id = i.job AND r.lease_id = i.lease
        RETURNING r.*, i.*
    ), ended AS (
        INSERT INTO sluice.attempts_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, status_code, input_tokens,
             cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, first_byte_ms,
             call_id, upstream, upstream_model, answered_model, request_id, error_class, error_message)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, g.outcome::sluice.outcome, v_now, g.status_code,
               g.input_tokens, g.cached_tokens, g.output_tokens, g.reasoning_tokens, g.cost, g.duration_ms,
               g.first_byte_ms, g.call_id, g.upstream, g.upstream_model, g.answered_model, g.request_id,
               g.error_class, g.error_message
        FROM gone g
    ), finished AS (
        INSERT INTO sluice.done
            (job_id, generation, state, lane_id, priority, finished_at, lease_id, lease_no, tries, crashes,
             is_cached, is_truncated, is_assembled, is_retryable, status_code, error_class, error_message, body)
        SELECT g.job_id, g.generation, g.next::sluice.job_state, g.lane_id, g.priority, v_now, g.lease_id,
               g.lease_no, g.tries + g.try_step, g.crashes, g.outcome = 'cached', g.is_truncated, g.is_assembled,
               g.is_retryable, g.status_code, CASE WHEN g.next <> 'succeeded' THEN g.error_class END,
               CASE WHEN g.next <> 'succeeded' THEN g.error_message END, g.body
        FROM gone g WHERE g.next IN ('succeeded', 'failed')
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, v_now + make_interval(secs => g.delay_ms / 1000.0), g.job_id, g.generation,
               g.lease_no, g.tries + g.try_step, g.crashes, g.refusals + g.refusal_step, g.hold_on_unknown,
               g.deadline
        FROM gone g WHERE g.next = 'queued'
    ), kept AS (
        INSERT INTO sluice.held
            (job_id, lane_id, priority, generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline,
             reason, held_at)
        SELECT g.job_id, g.lane_id, g.priority, g.generation, g.lease_no, g.tries + g.try_step, g.crashes,
               g.refusals + g.refusal_step, g.hold_on_unknown, g.deadline, g.hold_reason::sluice.hold_reason, v_now
        FROM gone g WHERE g.next = 'held'
    )
    SELECT g.lease_id FROM gone g;
END $$;
COMMENT ON FUNCTION sluice.settle(uuid[], uuid[], text[], text[], bigint[], smallint[], smallint[], text[], text[],
    text[], boolean[], smallint[], bytea[], boolean[], boolean[], integer[], integer[], integer[], integer[],
    bigint[], uuid[], text[], text[], text[], text[], integer[], integer[]) IS
    'Settles attempts: outcome, result, usage, cost and next state, for each job that runs under exactly the given lease. Returns the leases that counted; the others go to sluice.settle_late.';

-- The word of a worker whose lease had ended. Says settled, already_settled, late_accepted, late_kept or stale.
CREATE FUNCTION sluice.settle_late(
    p_incarnation uuid, p_job uuid, p_lease uuid, p_generation integer, p_lease_no integer, p_outcome text,
    p_status_code smallint, p_body bytea, p_is_truncated boolean, p_is_assembled boolean, p_input_tokens integer,
    p_cached_tokens integer, p_output_tokens integer, p_reasoning_tokens integer, p_cost bigint, p_call_id uuid,
    p_upstream text, p_upstream_model text, p_answered_model text, p_request_id text, p_duration_ms integer)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_is_answer boolean := p_outcome = 'succeeded' AND p_body IS NOT NULL;
    v_ended sluice.outcome;
    v_was_cancelled boolean;
    v_waiting record;
    v_now timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();

    DELETE FROM sluice.cancelled_leases c WHERE c.lease_id = p_lease;
    v_was_cancelled := FOUND;
    SELECT e.outcome INTO v_ended FROM sluice.attempts_ended e WHERE e.job_id = p_job AND e.lease_id = p_lease;
    IF v_ended IS NOT NULL AND v_ended <> 'lost' THEN
        RETURN 'already_settled';
    END IF;
    IF NOT v_is_answer AND NOT v_was_cancelled THEN
        RETURN 'stale';
    END IF;

    IF v_ended IS NULL THEN
        -- Let go after a cancel, or an attempt whose rows a fail-over took: the ledger gets them (again).
        INSERT INTO sluice.attempts_begun (job_id, lease_id, generation, lease_no, incarnation_id, begun_at)
        VALUES (p_job, p_lease, p_generation, p_lease_no, p_incarnation, v_now)
        ON CONFLICT DO NOTHING;
        INSERT INTO sluice.attempts_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, is_late, status_code, input_tokens,
             cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, call_id,
             upstream, upstream_model, answered_model, request_id)
        VALUES (p_job, p_lease, p_generation, p_lease_no,
                CASE WHEN v_is_answer THEN 'succeeded' ELSE 'cancelled' END::sluice.outcome, v_now, true,
                p_status_code, p_input_tokens, p_cached_tokens, p_output_tokens, p_reasoning_tokens, p_cost,
                p_duration_ms, p_call_id, p_upstream, p_upstream_model, p_answered_model, p_request_id)
        ON CONFLICT DO NOTHING;
    END IF;
    IF NOT v_is_answer THEN
        RETURN 'settled';
    END IF;

    INSERT INTO sluice.late_results
        (job_id, lease_id, generation, kept_at, status_code, is_truncated, is_assembled, input_tokens,
         cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, call_id, upstream,
         upstream_model, answered_model, request_id, body)
    VALUES (p_job, p_lease, p_generation, v_now, p_status_code, p_is_truncated, p_is_assembled, p_input_tokens,
            p_cached_tokens, p_output_tokens, p_reasoning_tokens, p_cost, p_duration_ms, p_call_id, p_upstream,
            p_upstream_model, p_answered_model, p_request_id, p_body)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'already_settled';
    END IF;

    -- It ends the job only where the job still waits in the same generation and was not leased since. The number alone
    -- does not say so: a fail-over that took this lease's rows also took its number, which another lease may have now.
    IF EXISTS (SELECT FROM sluice.attempts_begun b
               WHERE b.job_id = p_job AND b.lease_no >= p_lease_no AND b.lease_id <> p_lease) THEN
        RETURN 'late_kept';
    END IF;
    DELETE FROM sluice.ready r
    WHERE r.job_id = p_job AND r.generation = p_generation AND r.lease_no <= p_lease_no
    RETURNING r.lane_id, r.priority, r.tries, r.crashes INTO v_waiting;
    IF NOT FOUND THEN
        DELETE FROM sluice.held h
        WHERE h.job_id = p_job AND h.generation = p_generation AND h.lease_no <= p_lease_no
        RETURNING h.lane_id, h.priority, h.tries, h.crashes INTO v_waiting;
        IF NOT FOUND THEN
            RETURN 'late_kept';
        END IF;
    END IF;
    INSERT INTO sluice.done
        (job_id, generation, state, lane_id, priority, finished_at, lease_id, lease_no, tries, crashes, is_late,
         is_truncated, is_assembled, status_code)
    VALUES (p_job, p_generation, 'succeeded', v_waiting.lane_id, v_waiting.priority, v_now, p_lease, p_lease_no,
            v_waiting.tries, v_waiting.crashes, true, p_is_truncated, p_is_assembled, p_status_code);
    RETURN 'late_accepted';
END $$;
COMMENT ON FUNCTION sluice.settle_late(uuid, uuid, uuid, integer, integer, text, smallint, bytea, boolean, boolean,
    integer, integer, integer, integer, bigint, uuid, text, text, text, text, integer) IS
    'Takes the word of a worker whose lease had ended: settled (let go after a cancel), already_settled, late_accepted (the answer ended the job), late_kept (the answer is kept and changes nothing) or stale.';
