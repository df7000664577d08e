-- Settling gives back what the attempt held of limits, and corrects what its tokens were estimated at.

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
    -- A row that somebody holds in an open transaction must not hold up the others for long.
    SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_xid xid8;
    v_places tid[];
BEGIN
    v_xid := pg_current_xact_id();
    v_now := clock_timestamp();
    -- The places first, each looked up by its key. As a join, the planner could walk over all of running instead, where it
    -- takes that for nearly empty: by plans that are kept, long after it is not.
    v_places := ARRAY(
        SELECT (SELECT r.ctid FROM sluice.running r WHERE r.job_id = p_job_ids[n] AND r.lease_id = p_lease_ids[n])
        FROM generate_series(1, cardinality(p_job_ids)) AS n);
    RETURN QUERY
    WITH gone AS (
        -- The fence, once more: a place alone says too little. The input is in id order, and a nested loop keeps it so:
        -- two settles can't deadlock.
        DELETE FROM sluice.running r USING generate_series(1, cardinality(p_job_ids)) AS n
        WHERE r.ctid = v_places[n] AND r.lease_id = p_lease_ids[n]
        -- What is filtered by comes first: whoever reads these rows for it takes apart no more of them.
        RETURNING n, r.limit_ids, p_next[n] AS next,
            -- Then the row in done says all that the ledger would. Not so where a job fails for an attempt whose own
            -- outcome is another word: too many refusals, say.
            (p_next[n] = 'succeeded' AND p_outcomes[n] IN ('succeeded', 'cached'))
                OR (p_next[n] = 'failed' AND p_outcomes[n] = 'failed') AS ends_with_its_job,
            -- An attempt that its own worker settles as lost counts a crash, as one that expires does: it panicked, or
            -- the child process that it ran in died.
            r.crashes + (p_outcomes[n] = 'lost')::integer AS crashes,
            r.job_id, r.lease_id, r.generation, r.lease_no, r.tries, r.refusals, r.lane_id, r.priority,
            r.incarnation_id, r.leased_at, r.hold_on_unknown, r.deadline, r.reserved_tokens, r.body_bytes
    ), changed AS (
        -- Slots come back whatever happened. Of what was not sent all comes back; of the rest tokens are corrected where
        -- the usage is known, and else stay charged as they were estimated.
        INSERT INTO sluice.limit_changes
            (limit_id, xid, leased_at, amount, answers, body_bytes, input_tokens, output_tokens)
        SELECT l.id, v_xid, CASE WHEN l.id & 3 <> 0 THEN g.leased_at END,
               sum(CASE WHEN l.id & 3 <> 2 THEN -1
                        WHEN u.is_unsent THEN -g.reserved_tokens
                        WHEN p_input_tokens[g.n] + p_output_tokens[g.n]::bigint IS NULL THEN 0
                        -- No call uses more than four million, whatever an answer says.
                        ELSE least(p_input_tokens[g.n]::bigint + p_output_tokens[g.n], 4000000)
                             - g.reserved_tokens END),
               CASE WHEN l.id & 3 = 2 THEN count(p_input_tokens[g.n]) END,
               CASE WHEN l.id & 3 = 2 THEN sum(g.body_bytes) FILTER (WHERE p_input_tokens[g.n] > 0) END,
               CASE WHEN l.id & 3 = 2 THEN sum(least(p_input_tokens[g.n], 4000000)) FILTER (WHERE p_input_tokens[g.n] > 0) END,
               CASE WHEN l.id & 3 = 2 THEN sum(least(p_output_tokens[g.n], 4000000)) FILTER (WHERE p_input_tokens[g.n] IS NOT NULL) END
        FROM gone g
        CROSS JOIN LATERAL (SELECT p_outcomes[g.n] IN ('not_sent', 'cached') AS is_unsent) u
        CROSS JOIN LATERAL unnest(g.limit_ids) AS l(id)
        WHERE g.limit_ids IS NOT NULL AND (l.id & 3 <> 1 OR u.is_unsent)
        GROUP BY l.id, 3
    ), ended AS (
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, status_code, input_tokens,
             cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, first_byte_ms,
             call_id, upstream, upstream_model, answered_model, request_id, error_class, error_message,
             incarnation_id, begun_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, p_outcomes[g.n]::sluice.outcome, v_now,
               p_status_codes[g.n], p_input_tokens[g.n], p_cached_tokens[g.n], p_output_tokens[g.n],
               p_reasoning_tokens[g.n], p_costs[g.n], p_durations_ms[g.n], p_first_bytes_ms[g.n], p_call_ids[g.n],
               p_upstreams[g.n], p_upstream_models[g.n], p_answered_models[g.n], p_request_ids[g.n],
               p_error_classes[g.n], p_error_messages[g.n], g.incarnation_id, g.leased_at
        FROM gone g WHERE NOT g.ends_with_its_job
    ), finished AS (
        INSERT INTO sluice.done
            (job_id, generation, state, finished_at, lease_id, lease_no, tries, crashes,
             is_cached, is_truncated, is_assembled, is_retryable, status_code, error_class, error_message, body,
             incarnation_id, begun_at, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens,
             cost_nano_usd, call_duration_ms, first_byte_ms, call_id, upstream, upstream_model, answered_model,
             request_id)
        SELECT g.job_id, g.generation, g.next::sluice.job_state, v_now, g.lease_id, g.lease_no,
               g.tries + p_tries[g.n], g.crashes, p_outcomes[g.n] = 'cached', p_is_truncated[g.n],
               p_is_assembled[g.n], p_is_retryable[g.n], p_status_codes[g.n],
               CASE WHEN g.next <> 'succeeded' THEN p_error_classes[g.n] END,
               CASE WHEN g.next <> 'succeeded' THEN p_error_messages[g.n] END, p_bodies[g.n],
               CASE WHEN g.ends_with_its_job THEN g.incarnation_id END,
               CASE WHEN g.ends_with_its_job THEN g.leased_at END, p_input_tokens[g.n], nullif(p_cached_tokens[g.n], 0),
               p_output_tokens[g.n], nullif(p_reasoning_tokens[g.n], 0), p_costs[g.n], p_durations_ms[g.n],
               p_first_bytes_ms[g.n], nullif(p_call_ids[g.n], g.lease_id), p_upstreams[g.n], p_upstream_models[g.n],
               p_answered_models[g.n], p_request_ids[g.n]
        FROM gone g WHERE g.next IN ('succeeded', 'failed')
    ), requeued AS (
        INSERT INTO sluice.ready
            (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals, hold_on_unknown,
             deadline)
        SELECT g.lane_id, g.priority, 0, v_now + make_interval(secs => p_delays_ms[g.n] / 1000.0), g.job_id,
               g.generation, g.lease_no, g.tries + p_tries[g.n], g.crashes, g.refusals + p_refusals[g.n],
               g.hold_on_unknown, g.deadline
        FROM gone g WHERE g.next = 'queued'
    ), kept AS (
        INSERT INTO sluice.held
            (job_id, lane_id, priority, generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline,
             reason, held_at)
        SELECT g.job_id, g.lane_id, g.priority, g.generation, g.lease_no, g.tries + p_tries[g.n], g.crashes,
               g.refusals + p_refusals[g.n], g.hold_on_unknown, g.deadline, p_hold_reasons[g.n]::sluice.hold_reason,
               v_now
        FROM gone g WHERE g.next = 'held'
    )
    SELECT g.lease_id FROM gone g;
END $$;
