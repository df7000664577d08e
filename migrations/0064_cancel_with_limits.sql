-- A cancelled lease holds of its limits until its worker lets go of the call.

CREATE OR REPLACE FUNCTION sluice.cancel_job(p_tenant text, p_job uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET jit = off
AS $$
DECLARE
    v_row record;
    v_state text;
    v_now timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM sluice.jobs j WHERE j.id = p_job AND j.tenant = p_tenant) THEN
        RETURN 'unknown';
    END IF;
    FOR v_look IN 1 .. 10 LOOP
        v_now := clock_timestamp();
        DELETE FROM sluice.ready r USING sluice.queued q WHERE q.job_id = p_job AND r.ctid = q.at
        RETURNING r.generation, r.lane_id, r.priority, r.lease_no, r.tries, r.crashes INTO v_row;
        IF NOT FOUND THEN
            DELETE FROM sluice.held h WHERE h.job_id = p_job
            RETURNING h.generation, h.lane_id, h.priority, h.lease_no, h.tries, h.crashes INTO v_row;
        END IF;
        IF FOUND THEN
            INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries,
                                     crashes, error_class, error_message)
            VALUES (p_job, v_row.generation, 'cancelled', v_row.lane_id, v_row.priority, v_now, v_row.lease_no,
                    v_row.tries, v_row.crashes, 'cancelled', 'the job was cancelled');
            RETURN 'cancelled';
        END IF;
        DELETE FROM sluice.running r WHERE r.job_id = p_job RETURNING r.* INTO v_row;
        IF FOUND THEN
            INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_id, lease_no,
                                     tries, crashes, error_class, error_message)
            VALUES (p_job, v_row.generation, 'cancelled', v_row.lane_id, v_row.priority, v_now, v_row.lease_id,
                    v_row.lease_no, v_row.tries, v_row.crashes, 'cancelled',
                    'the job was cancelled while it ran');
            INSERT INTO sluice.cancelled_leases
                (lease_id, job_id, generation, lease_no, incarnation_id, lane_id, cancelled_at, begun_at,
                 limit_ids, reserved_tokens)
            VALUES (v_row.lease_id, p_job, v_row.generation, v_row.lease_no, v_row.incarnation_id, v_row.lane_id,
                    v_now, v_row.leased_at, v_row.limit_ids, v_row.reserved_tokens);
            RETURN 'cancelled';
        END IF;
        SELECT d.state::text INTO v_state FROM sluice.done d
        WHERE d.job_id = p_job ORDER BY d.generation DESC LIMIT 1;
        -- Ended, unless it was replayed between the looks.
        IF FOUND AND NOT EXISTS (SELECT FROM sluice.queued q WHERE q.job_id = p_job)
           AND NOT EXISTS (SELECT FROM sluice.running r WHERE r.job_id = p_job)
           AND NOT EXISTS (SELECT FROM sluice.held h WHERE h.job_id = p_job) THEN
            RETURN CASE v_state WHEN 'cancelled' THEN 'already_cancelled' ELSE v_state END;
        END IF;
    END LOOP;
    RETURN 'busy';
END $$;

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
    v_limits bigint[];
    v_reserved bigint;
    v_now timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();

    DELETE FROM sluice.cancelled_leases c WHERE c.lease_id = p_lease
    RETURNING coalesce(c.begun_at, c.cancelled_at), c.limit_ids, c.reserved_tokens
    INTO v_begun_at, v_limits, v_reserved;
    v_was_cancelled := FOUND;
    IF v_limits IS NOT NULL THEN
        -- As in sluice.settle. Without a call, nothing was sent.
        INSERT INTO sluice.limit_changes (limit_id, xid, leased_at, amount)
        SELECT l.id, pg_current_xact_id(), CASE WHEN l.id & 3 <> 0 THEN v_begun_at END,
               CASE WHEN l.id & 3 <> 2 THEN -1
                    WHEN p_call_id IS NULL THEN -v_reserved
                    WHEN p_input_tokens::bigint + p_output_tokens IS NULL THEN 0
                    ELSE least(p_input_tokens::bigint + p_output_tokens, 4000000) - v_reserved END
        FROM unnest(v_limits) AS l(id)
        WHERE l.id & 3 <> 1 OR p_call_id IS NULL;
    END IF;
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
