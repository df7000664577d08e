-- The path that nearly all jobs call is not written with each of them.

CREATE OR REPLACE FUNCTION sluice.submit_batch(
    p_ids uuid[], p_tenants text[], p_queues text[], p_models text[], p_paths text[], p_priorities smallint[],
    p_keys text[], p_run_ats timestamptz[], p_deadlines timestamptz[], p_max_attempts smallint[],
    p_holds boolean[], p_tags jsonb[], p_traceparents text[], p_bodies bytea[],
    p_key_wait_ms integer)
    RETURNS TABLE (ordinal integer, job_id uuid, verdict text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET lock_timeout = '2s'
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_key timestamptz;
    v_refused boolean[] := NULL;
    v_is_torn boolean;
    v_new_keys integer;
BEGIN
    -- The transaction must have its id before the clock is read: whoever then sees the clock past this key and the
    -- id still running knows that an earlier row may yet appear.
    PERFORM pg_current_xact_id();
    v_key := clock_timestamp();

    IF array_length(array_remove(p_keys, NULL), 1) > 0 THEN
        PERFORM set_config('lock_timeout', p_key_wait_ms::text, true);
        -- In key order, so that two batches with the same keys wait for each other one way round only; of a key that
        -- stands twice in the batch, the first counts.
        INSERT INTO sluice.idempotency_keys AS k (tenant, key, job_id, content_sha256)
        SELECT i.tenant, i.key, i.id,
               sha256(convert_to(i.path || E'\x1f' || i.model || E'\x1f', 'UTF8') || sha256(i.body))
        FROM unnest(p_ids, p_tenants, p_models, p_paths, p_keys, p_bodies) WITH ORDINALITY
             AS i(id, tenant, model, path, key, body, ordinal)
        WHERE i.key IS NOT NULL
        ORDER BY i.tenant, i.key, i.ordinal
        ON CONFLICT DO NOTHING;

        GET DIAGNOSTICS v_new_keys = ROW_COUNT;
        -- Read only where a key was there before: in a serializable transaction each look is a conflict with whoever
        -- writes a key nearby.
        IF v_new_keys < cardinality(array_remove(p_keys, NULL)) THEN
            RETURN QUERY
            SELECT i.ordinal::integer, k.job_id,
                   CASE WHEN k.content_sha256
                             = sha256(convert_to(i.path || E'\x1f' || i.model || E'\x1f', 'UTF8') || sha256(i.body))
                        THEN 'existing' ELSE 'other_content' END
            FROM unnest(p_ids, p_tenants, p_models, p_paths, p_keys, p_bodies) WITH ORDINALITY
                 AS i(id, tenant, model, path, key, body, ordinal)
            JOIN sluice.idempotency_keys k ON k.tenant = i.tenant AND k.key = i.key
            WHERE i.key IS NOT NULL AND k.job_id <> i.id;

            SELECT array_agg(i.key IS NOT NULL AND k.job_id IS DISTINCT FROM i.id ORDER BY i.ordinal),
                   bool_or(i.key IS NOT NULL AND k.job_id IS NULL)
            INTO v_refused, v_is_torn
            FROM unnest(p_ids, p_tenants, p_keys) WITH ORDINALITY AS i(id, tenant, key, ordinal)
            LEFT JOIN sluice.idempotency_keys k ON k.tenant = i.tenant AND k.key = i.key;
            IF v_is_torn THEN
                RAISE EXCEPTION 'an idempotency key ended with its old job while it was looked up: try again'
                    USING ERRCODE = 'serialization_failure';
            END IF;
        END IF;
    END IF;

    RETURN QUERY
    WITH input AS MATERIALIZED (
        SELECT i.*, sluice.lane_id(i.tenant, i.queue, i.model) AS lane
        FROM unnest(p_ids, p_tenants, p_queues, p_models, p_paths, p_priorities, p_keys, p_run_ats, p_deadlines,
                    p_max_attempts, p_holds, p_tags, p_traceparents, p_bodies) WITH ORDINALITY
             AS i(id, tenant, queue, model, path, priority, key, run_at, deadline, max_attempts, hold, tags,
                  traceparent, body, ordinal)
        WHERE v_refused IS NULL OR NOT v_refused[i.ordinal::integer]
    ), stored AS (
        INSERT INTO sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, deadline,
                                 max_attempts, hold_on_unknown, idempotency_key, tags, traceparent, body)
        SELECT id, tenant, queue, model, nullif(path, '/v1/chat/completions'), lane, priority, v_key, deadline, max_attempts, hold, key, tags,
               traceparent, body
        FROM input
    ), waiting AS (
        INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes,
                                  refusals, hold_on_unknown, deadline)
        SELECT lane, priority, CASE WHEN run_at > v_key THEN 0 ELSE 1 END, greatest(run_at, v_key), id, 1, 0, 0, 0,
               0, hold, deadline
        FROM input
    )
    SELECT i.ordinal::integer, i.id, 'created' FROM input i;
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
        -- Shown where the job ended without an answer of its own; of several, the one that ended it.
        SELECT l.* FROM sluice.late_results l
        WHERE l.job_id = i.id AND l.generation = p.generation AND p.finished_at IS NOT NULL
          AND p.body IS NULL
        ORDER BY l.lease_id = p.lease_id DESC NULLS LAST, l.kept_at LIMIT 1
    ) late ON true
    ORDER BY i.ordinal;
END $$;
