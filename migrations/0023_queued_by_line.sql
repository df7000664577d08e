-- What finds queued jobs by id does so by the view sluice.queued.

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
                (lease_id, job_id, generation, lease_no, incarnation_id, lane_id, cancelled_at, begun_at)
            VALUES (v_row.lease_id, p_job, v_row.generation, v_row.lease_no, v_row.incarnation_id, v_row.lane_id,
                    v_now, v_row.leased_at);
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

CREATE OR REPLACE FUNCTION sluice.replay_job(p_tenant text, p_job uuid, p_delay interval) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET jit = off
AS $$
DECLARE
    v_job record;
    v_last record;
    v_now timestamptz;
BEGIN
    SELECT j.priority, j.lane_id, j.hold_on_unknown, j.deadline INTO v_job
    FROM sluice.jobs j WHERE j.id = p_job AND j.tenant = p_tenant;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    -- The lock on the last end makes a second replay wait; what it then sees is decided by the next statement's
    -- own snapshot.
    SELECT d.generation, d.lease_no INTO v_last FROM sluice.done d
    WHERE d.job_id = p_job ORDER BY d.generation DESC LIMIT 1 FOR UPDATE;
    IF NOT FOUND
       OR EXISTS (SELECT FROM sluice.done d WHERE d.job_id = p_job AND d.generation > v_last.generation)
       OR EXISTS (SELECT FROM sluice.queued q WHERE q.job_id = p_job)
       OR EXISTS (SELECT FROM sluice.running r WHERE r.job_id = p_job)
       OR EXISTS (SELECT FROM sluice.held h WHERE h.job_id = p_job) THEN
        RETURN 'not_ended';
    END IF;
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
                              hold_on_unknown, deadline)
    VALUES (v_job.lane_id, v_job.priority, 0, v_now + p_delay, p_job, v_last.generation + 1, v_last.lease_no, 0, 0,
            0, v_job.hold_on_unknown, CASE WHEN v_job.deadline > v_now THEN v_job.deadline END);
    RETURN 'queued';
END $$;

CREATE OR REPLACE FUNCTION sluice.matching_jobs(
    p_tenant text, p_state sluice.job_state, p_queue text, p_model text, p_error_class text, p_tags jsonb,
    p_created_after timestamptz, p_created_before timestamptz, p_before_id uuid, p_limit integer)
    RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_from uuid := CASE WHEN p_created_after IS NULL THEN '00000000-0000-0000-0000-000000000000'::uuid
                        ELSE sluice.uuid_floor(p_created_after - interval '1 day') END;
    v_to uuid := least(
        coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid),
        CASE WHEN p_created_before IS NULL THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
             ELSE sluice.uuid_floor(p_created_before + interval '1 day') END);
    v_places text;
BEGIN
    v_places := CASE p_state
        WHEN 'queued' THEN 'SELECT p.job_id FROM sluice.queued p'
        WHEN 'running' THEN 'SELECT p.job_id FROM sluice.running p'
        WHEN 'held' THEN 'SELECT p.job_id FROM sluice.held p'
        ELSE NULL
    END;
    IF p_state IN ('succeeded', 'failed', 'cancelled') OR (p_state IS NULL AND p_error_class IS NOT NULL) THEN
        v_places := format(
            'SELECT p.job_id FROM sluice.done p
             WHERE %s AND ($5 IS NULL OR p.error_class = $5)
               AND NOT EXISTS (SELECT FROM sluice.done n
                               WHERE n.job_id = p.job_id AND n.generation > p.generation)
               AND NOT EXISTS (SELECT FROM sluice.queued n WHERE n.job_id = p.job_id)
               AND NOT EXISTS (SELECT FROM sluice.running n WHERE n.job_id = p.job_id)
               AND NOT EXISTS (SELECT FROM sluice.held n WHERE n.job_id = p.job_id)',
            CASE WHEN p_state IS NULL THEN 'p.state <> ''succeeded''' ELSE format('p.state = %L', p_state) END);
    ELSIF v_places IS NOT NULL THEN
        v_places := v_places || ' WHERE ($5 IS NULL OR EXISTS (
            SELECT FROM sluice.attempts_ended e WHERE e.job_id = p.job_id AND e.error_class = $5))';
    ELSE
        v_places := 'SELECT p.id AS job_id FROM sluice.jobs p WHERE true';
    END IF;
    RETURN QUERY EXECUTE
        'SELECT j.id FROM (' || v_places || ' AND p.' || CASE WHEN p_state IS NULL AND p_error_class IS NULL
            THEN 'id' ELSE 'job_id' END || ' >= $8 AND p.' || CASE WHEN p_state IS NULL AND p_error_class IS NULL
            THEN 'id' ELSE 'job_id' END || ' < $9) p
         JOIN sluice.jobs j ON j.id = p.job_id
         WHERE j.tenant = $1 AND ($2 IS NULL OR j.queue = $2) AND ($3 IS NULL OR j.model = $3)
           AND ($4 IS NULL OR j.tags @> $4) AND ($6 IS NULL OR j.created_at >= $6)
           AND ($7 IS NULL OR j.created_at < $7)
         ORDER BY j.id DESC LIMIT $10'
        USING p_tenant, p_queue, p_model, p_tags, p_error_class, p_created_after, p_created_before, v_from, v_to,
              p_limit;
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
    SELECT j.id, j.tenant, j.queue, j.lane_id, j.path, j.model, p.state, p.hold_reason, j.priority, p.tries,
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
        -- Shown where the job ended without an answer of its own; of several, the one that ended it.
        SELECT l.* FROM sluice.late_results l
        WHERE l.job_id = i.id AND l.generation = p.generation AND p.finished_at IS NOT NULL
          AND p.body IS NULL
        ORDER BY l.lease_id = p.lease_id DESC NULLS LAST, l.kept_at LIMIT 1
    ) late ON true
    ORDER BY i.ordinal;
END $$;

-- Compiling a plan costs more than running any of these; and a plan that is pinned looks dear enough to be compiled.
ALTER FUNCTION sluice.submit_batch(uuid[], text[], text[], text[], text[], smallint[], text[], timestamptz[],
    timestamptz[], smallint[], boolean[], jsonb[], text[], bytea[], integer) SET jit = off;
