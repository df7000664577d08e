-- Expiry, hand-back, deadlines and late words, on the ledger's new tables.

CREATE OR REPLACE FUNCTION sluice.expire_leases(p_incarnation uuid, p_limit integer) RETURNS integer
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
        INSERT INTO sluice.ledger_ended
            (job_id, lease_id, generation, lease_no, outcome, ended_at, error_class, error_message, incarnation_id,
             begun_at)
        SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'lost', v_now, 'lease_lost',
               'the worker that held the lease stopped beating', g.incarnation_id, g.leased_at
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
    )
    INSERT INTO sluice.ledger_ended
        (job_id, lease_id, generation, lease_no, outcome, ended_at, incarnation_id, begun_at)
    SELECT g.job_id, g.lease_id, g.generation, g.lease_no, 'not_sent', v_now, g.incarnation_id,
           coalesce(g.begun_at, g.cancelled_at)
    FROM gone g
    ON CONFLICT DO NOTHING;
    RETURN v_moved;
END $$;

CREATE OR REPLACE FUNCTION sluice.deadlines_end(p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_from_ready integer;
    v_from_held integer;
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT r.ctid AS at FROM sluice.ready r WHERE r.deadline <= v_now
        ORDER BY r.deadline LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sluice.ready r USING picked p WHERE r.ctid = p.at RETURNING r.*
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

-- The word of a worker whose lease had ended. Says settled, already_settled, late_accepted, late_kept or stale.
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
    v_is_answer boolean := p_outcome = 'succeeded' AND p_body IS NOT NULL;
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
                CASE WHEN v_is_answer THEN 'succeeded' ELSE 'cancelled' END::sluice.outcome, v_now, true,
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
