-- Submitting: one statement for any number of jobs, over every door.

-- The wait for another's uncommitted key is bounded by p_key_wait_ms and ends with SQLSTATE 55P03.
CREATE FUNCTION sluice.submit_batch(
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
        SELECT id, tenant, queue, model, path, lane, priority, v_key, deadline, max_attempts, hold, key, tags,
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
COMMENT ON FUNCTION sluice.submit_batch(uuid[], text[], text[], text[], text[], smallint[], text[], timestamptz[],
    timestamptz[], smallint[], boolean[], jsonb[], text[], bytea[], integer) IS
    'Stores jobs that were checked. A row for each: its place in the input, the job''s id, and created, existing or other_content.';
