-- A late answer that was paid for and is no success (cut, malformed, empty) is kept like any other: it ends no job, and it
-- is not thrown away.

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
         upstream_model, answered_model, request_id, body)
    VALUES (p_job, p_lease, p_generation, v_now, p_status_code, p_is_truncated, p_is_assembled, p_input_tokens,
            p_cached_tokens, p_output_tokens, p_reasoning_tokens, p_cost, p_duration_ms, p_call_id, p_upstream,
            p_upstream_model, p_answered_model, p_request_id, p_body)
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
