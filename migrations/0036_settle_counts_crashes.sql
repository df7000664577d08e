-- An attempt that its own worker settles as lost counts a crash, as one that expires does: it panicked, or the child
-- process that it ran in died.

CREATE OR REPLACE FUNCTION sluice.settle(
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
    SET jit = off
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
        RETURNING r.*, i.*,
            -- Then the row in done says all that the ledger would. Not so where a job fails for an attempt whose own
            -- outcome is another word: too many refusals, say.
            (i.next = 'succeeded' AND i.outcome IN ('succeeded', 'cached'))
                OR (i.next = 'failed' AND i.outcome = 'failed') AS ends_with_its_job,
            (i.outcome = 'lost')::integer AS crash_step
    ), ended AS (
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, status_code, input_tokens,
             cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, first_byte_ms,
             call_id, upstream, upstream_model, answered_model, request_id, error_class, error_message,
             incarnation_id, begun_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, g.outcome::sluice.outcome, v_now, g.status_code,
               g.input_tokens, g.cached_tokens, g.output_tokens, g.reasoning_tokens, g.cost, g.duration_ms,
               g.first_byte_ms, g.call_id, g.upstream, g.upstream_model, g.answered_model, g.request_id,
               g.error_class, g.error_message, g.incarnation_id, g.leased_at
        FROM gone g WHERE NOT g.ends_with_its_job
    ), finished AS (
        INSERT INTO sluice.done
            (job_id, generation, state, lane_id, priority, finished_at, lease_id, lease_no, tries, crashes,
             is_cached, is_truncated, is_assembled, is_retryable, status_code, error_class, error_message, body,
             incarnation_id, begun_at, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens,
             cost_nano_usd, call_duration_ms, first_byte_ms, call_id, upstream, upstream_model, answered_model,
             request_id)
        SELECT g.job_id, g.generation, g.next::sluice.job_state, g.lane_id, g.priority, v_now, g.lease_id,
               g.lease_no, g.tries + g.try_step, g.crashes + g.crash_step, g.outcome = 'cached', g.is_truncated,
               g.is_assembled, g.is_retryable, g.status_code, CASE WHEN g.next <> 'succeeded' THEN g.error_class END,
               CASE WHEN g.next <> 'succeeded' THEN g.error_message END, g.body,
               CASE WHEN g.ends_with_its_job THEN g.incarnation_id END,
               CASE WHEN g.ends_with_its_job THEN g.leased_at END,
               g.input_tokens, g.cached_tokens, g.output_tokens, g.reasoning_tokens, g.cost, g.duration_ms,
               g.first_byte_ms, g.call_id, g.upstream, g.upstream_model, g.answered_model, g.request_id
        FROM gone g WHERE g.next IN ('succeeded', 'failed')
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, v_now + make_interval(secs => g.delay_ms / 1000.0), g.job_id, g.generation,
               g.lease_no, g.tries + g.try_step, g.crashes + g.crash_step, g.refusals + g.refusal_step,
               g.hold_on_unknown, g.deadline
        FROM gone g WHERE g.next = 'queued'
    ), kept AS (
        INSERT INTO sluice.held
            (job_id, lane_id, priority, generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline,
             reason, held_at)
        SELECT g.job_id, g.lane_id, g.priority, g.generation, g.lease_no, g.tries + g.try_step,
               g.crashes + g.crash_step, g.refusals + g.refusal_step, g.hold_on_unknown, g.deadline,
               g.hold_reason::sluice.hold_reason, v_now
        FROM gone g WHERE g.next = 'held'
    )
    SELECT g.lease_id FROM gone g;
END $$;
COMMENT ON FUNCTION sluice.settle(uuid[], uuid[], text[], text[], bigint[], smallint[], smallint[], text[], text[],
    text[], boolean[], smallint[], bytea[], boolean[], boolean[], integer[], integer[], integer[], integer[],
    bigint[], uuid[], text[], text[], text[], text[], integer[], integer[]) IS
    'Settles attempts: outcome, result, usage, cost and next state, for each job that runs under exactly the given lease; one crash more where the outcome is lost. Returns the leases that counted; the others go to sluice.settle_late.';
