-- A late answer that is a success is shown before one that is not (cut, malformed, empty), whichever came first.

ALTER TABLE sluice.late_results ADD COLUMN is_success boolean;
COMMENT ON COLUMN sluice.late_results.is_success IS
    'Whether the answer is a success; NULL in rows of earlier releases, which kept hardly anything else.';

CREATE OR REPLACE FUNCTION sluice.settle_late(
    p_incarnation uuid, p_job uuid, p_lease uuid, p_generation integer, p_lease_no integer, p_outcome text,
    p_status_code smallint, p_body bytea, p_is_truncated boolean, p_is_assembled boolean, p_input_tokens integer,
    p_cached_tokens integer, p_output_tokens integer, p_reasoning_tokens integer, p_cost bigint, p_call_id uuid,
    p_upstream text, p_upstream_model text, p_answered_model text, p_request_id text, p_duration_ms integer)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_is_success boolean := p_outcome = 'succeeded' AND p_body IS NOT NULL;
    -- Providers charge for what they answer with a success status, whatever it is worth.
    v_is_answer boolean := v_is_success OR (p_body IS NOT NULL AND p_status_code BETWEEN 200 AND 299);
    v_ended sluice.outcome;
    v_was_cancelled boolean;
    v_waiting record;
    v_begun_at timestamptz;
    v_now timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();

    DELETE FROM sluice.cancelled_leases c WHERE c.lease_id = p_lease
    RETURNING coalesce(c.begun_at, c.cancelled_at) INTO v_begun_at;
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
        IF NOT v_was_cancelled THEN
            INSERT INTO sluice.ledger_begun (id, incarnation_id, begun_at, job_ids, lease_ids, lease_nos)
            VALUES (sluice.uuid_v7(), p_incarnation, v_now, ARRAY[p_job], ARRAY[p_lease], ARRAY[p_lease_no]);
        END IF;
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, is_late, status_code, input_tokens,
             cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, call_id,
             upstream, upstream_model, answered_model, request_id, incarnation_id, begun_at)
        VALUES (p_job, p_lease, p_generation, p_lease_no,
                CASE WHEN v_is_answer THEN p_outcome ELSE 'cancelled' END::sluice.outcome, v_now, true,
                p_status_code, p_input_tokens, p_cached_tokens, p_output_tokens, p_reasoning_tokens, p_cost,
                p_duration_ms, p_call_id, p_upstream, p_upstream_model, p_answered_model, p_request_id,
                p_incarnation, coalesce(v_begun_at, v_now))
        ON CONFLICT DO NOTHING;
    END IF;
    IF NOT v_is_answer THEN
        RETURN 'settled';
    END IF;

    INSERT INTO sluice.late_results
        (job_id, lease_id, generation, kept_at, status_code, is_truncated, is_assembled, input_tokens,
         cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, call_id, upstream,
         upstream_model, answered_model, request_id, body, is_success)
    VALUES (p_job, p_lease, p_generation, v_now, p_status_code, p_is_truncated, p_is_assembled, p_input_tokens,
            p_cached_tokens, p_output_tokens, p_reasoning_tokens, p_cost, p_duration_ms, p_call_id, p_upstream,
            p_upstream_model, p_answered_model, p_request_id, p_body, v_is_success)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'already_settled';
    END IF;

    IF NOT v_is_success THEN
        RETURN 'late_kept';
    END IF;

    -- It ends the job only where the job still waits in the same generation and was not leased since. The number alone
    -- does not say so: a fail-over that took this lease's rows also took its number, which another lease may have now.
    IF EXISTS (SELECT FROM sluice.attempts_begun b
               WHERE b.job_id = p_job AND b.lease_no >= p_lease_no AND b.lease_id <> p_lease) THEN
        RETURN 'late_kept';
    END IF;
    DELETE FROM sluice.ready r USING sluice.queued q
    WHERE q.job_id = p_job AND r.ctid = q.at AND r.generation = p_generation AND r.lease_no <= p_lease_no
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
        -- Shown where the job ended without an answer of its own; of several, the one that ended it, and of those that
        -- ended nothing a success.
        SELECT l.* FROM sluice.late_results l
        WHERE l.job_id = i.id AND l.generation = p.generation AND p.finished_at IS NOT NULL
          AND p.body IS NULL
        ORDER BY l.lease_id = p.lease_id DESC NULLS LAST, coalesce(l.is_success, true) DESC, l.kept_at LIMIT 1
    ) late ON true
    ORDER BY i.ordinal;
END $$;
