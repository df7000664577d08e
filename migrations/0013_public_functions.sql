-- The functions that users call from SQL, inside their own transactions, and the role that may.

CREATE FUNCTION sluice.refuse(p_field text, p_problem text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%: %', p_field, p_problem USING ERRCODE = 'invalid_parameter_value', COLUMN = p_field;
END $$;
COMMENT ON FUNCTION sluice.refuse(text, text) IS 'Refuses a parameter with SQLSTATE 22023 and a text that says what would be right.';

-- Tells workers that said they sleep. A busy system notifies nobody: NOTIFY takes a global lock at commit.
CREATE FUNCTION sluice.wake_sleepers() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM sluice.incarnations i WHERE i.dead_at IS NULL AND i.is_asleep) THEN
        PERFORM pg_notify('sluice_ready', '');
    END IF;
END $$;
COMMENT ON FUNCTION sluice.wake_sleepers() IS 'Rings the doorbell of new work if a worker has said that it sleeps.';

CREATE FUNCTION sluice.check_submit(
    p_body json, p_path text, p_queue text, p_model text, p_priority integer, p_key text, p_run_at timestamptz,
    p_deadline timestamptz, p_max_attempts integer, p_tags jsonb, p_on_unknown text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_tag record;
BEGIN
    IF p_body IS NULL OR json_typeof(p_body) <> 'object' THEN
        PERFORM sluice.refuse('body', 'must be a JSON object');
    ELSIF octet_length(p_body::text) > 8 * 1024 * 1024 THEN
        PERFORM sluice.refuse('body', format('has %s bytes; at most 8388608 are allowed', octet_length(p_body::text)));
    ELSIF p_path IS NULL OR p_path !~ '^(/[A-Za-z0-9_.:-]+)+$' OR p_path LIKE '%..%' OR length(p_path) > 256 THEN
        PERFORM sluice.refuse('path', 'must start with / and hold letters, digits, /, -, _, . and : only');
    ELSIF p_queue IS NULL OR p_queue !~ '^[[:alnum:]_.:-]+$' OR octet_length(p_queue) > 128 THEN
        PERFORM sluice.refuse('queue', 'must have 1 to 128 letters, digits, -, _, . or :');
    ELSIF p_queue LIKE 'run:%' THEN
        PERFORM sluice.refuse('queue', 'must not begin with run: (those belong to sluice run)');
    ELSIF p_model IS NULL OR p_model = '' OR octet_length(p_model) > 256 OR p_model ~ '[[:cntrl:]]' THEN
        PERFORM sluice.refuse('body.model', 'must be a string of 1 to 256 bytes: which model the call asks for');
    ELSIF p_priority IS NULL OR p_priority NOT BETWEEN 1 AND 5 THEN
        PERFORM sluice.refuse('priority', 'must be 1 to 5 (5 is most urgent)');
    ELSIF p_key = '' OR octet_length(p_key) > 255 OR p_key ~ '[[:cntrl:]]' THEN
        PERFORM sluice.refuse('idempotency_key', 'must have 1 to 255 bytes without control characters');
    ELSIF NOT isfinite(p_run_at) OR p_run_at > clock_timestamp() + interval '10 years' THEN
        PERFORM sluice.refuse('run_at', 'must be within ten years from now');
    ELSIF NOT isfinite(p_deadline) OR p_deadline <= clock_timestamp()
          OR p_deadline > clock_timestamp() + interval '20 years' THEN
        PERFORM sluice.refuse('deadline', 'must be in the future and within twenty years');
    ELSIF p_deadline <= p_run_at THEN
        PERFORM sluice.refuse('deadline', 'must be later than run_at');
    ELSIF p_max_attempts NOT BETWEEN 1 AND 100 THEN
        PERFORM sluice.refuse('max_attempts', 'must be 1 to 100');
    ELSIF p_on_unknown IS NULL OR p_on_unknown NOT IN ('retry', 'hold') THEN
        PERFORM sluice.refuse('on_unknown', 'must be retry or hold');
    ELSIF p_tags IS NULL OR jsonb_typeof(p_tags) <> 'object' THEN
        PERFORM sluice.refuse('tags', 'must be an object of strings');
    END IF;
    IF (SELECT count(*) FROM jsonb_object_keys(p_tags)) > 64 THEN
        PERFORM sluice.refuse('tags', 'may have at most 64 pairs');
    END IF;
    FOR v_tag IN SELECT key, value, jsonb_typeof(value) AS kind FROM jsonb_each(p_tags) LOOP
        IF v_tag.kind <> 'string' OR v_tag.key = '' OR octet_length(v_tag.key) > 64
           OR v_tag.key ~ '[[:cntrl:]]' OR octet_length(v_tag.value #>> '{}') > 512 THEN
            PERFORM sluice.refuse('tags', format(
                'the value of %s must be a string of at most 512 bytes, and its key have 1 to 64', quote_literal(v_tag.key)));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION sluice.check_submit(json, text, text, text, integer, text, timestamptz, timestamptz, integer, jsonb, text)
    IS 'Refuses a job that could not be accepted over any door.';

CREATE FUNCTION sluice.submit(
    body json, path text DEFAULT '/v1/chat/completions', queue text DEFAULT 'default', priority integer DEFAULT 3,
    idempotency_key text DEFAULT NULL, run_at timestamptz DEFAULT NULL, deadline timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL, tags jsonb DEFAULT '{}', on_unknown text DEFAULT 'retry') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_model text := CASE WHEN json_typeof(body) = 'object' AND json_typeof(body -> 'model') = 'string'
                         THEN body ->> 'model' END;
    v_answer record;
BEGIN
    PERFORM sluice.check_submit(body, path, queue, v_model, priority, idempotency_key, run_at, deadline, max_attempts,
        tags, on_unknown);
    SELECT b.job_id, b.verdict INTO v_answer FROM sluice.submit_batch(
        ARRAY[sluice.uuid_v7()], ARRAY['default'], ARRAY[queue], ARRAY[v_model], ARRAY[path],
        ARRAY[priority::smallint], ARRAY[idempotency_key], ARRAY[run_at], ARRAY[deadline],
        ARRAY[max_attempts::smallint], ARRAY[on_unknown = 'hold'], ARRAY[tags], ARRAY[NULL::text],
        ARRAY[convert_to(body::text, 'UTF8')], 2000) AS b;
    IF v_answer.verdict = 'other_content' THEN
        RAISE EXCEPTION 'idempotency_key: was used with another path, model or body by job %', v_answer.job_id
            USING ERRCODE = 'unique_violation', COLUMN = 'idempotency_key';
    END IF;
    PERFORM sluice.wake_sleepers();
    RETURN v_answer.job_id;
END $$;
COMMENT ON FUNCTION sluice.submit(json, text, text, integer, text, timestamptz, timestamptz, integer, jsonb, text) IS
    'Submits a job in the caller''s transaction and returns its id; a key seen before with the same content returns the first job''s id.';

CREATE FUNCTION sluice.submit_many(jobs json) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_known text[] := ARRAY['body', 'path', 'model', 'queue', 'priority', 'idempotency_key', 'run_at', 'deadline',
                            'max_attempts', 'on_unknown', 'tags'];
    v_line record;
    v_unknown text;
    v_count integer;
    v_answer record;
    v_ids uuid[] := '{}';
    v_queues text[] := '{}';
    v_models text[] := '{}';
    v_paths text[] := '{}';
    v_priorities smallint[] := '{}';
    v_keys text[] := '{}';
    v_run_ats timestamptz[] := '{}';
    v_deadlines timestamptz[] := '{}';
    v_max_attempts smallint[] := '{}';
    v_holds boolean[] := '{}';
    v_tags jsonb[] := '{}';
    v_bodies bytea[] := '{}';
    v_model text;
BEGIN
    IF jobs IS NULL OR json_typeof(jobs) <> 'array' THEN
        PERFORM sluice.refuse('jobs', 'must be a JSON array of objects, each with a body');
    END IF;
    v_count := json_array_length(jobs);
    FOR v_line IN SELECT e.job, e.ordinal - 1 AS at FROM json_array_elements(jobs) WITH ORDINALITY AS e(job, ordinal) LOOP
        BEGIN
            IF json_typeof(v_line.job) <> 'object' THEN
                PERFORM sluice.refuse('', 'must be an object with a body');
            END IF;
            SELECT k INTO v_unknown FROM json_object_keys(v_line.job) AS k WHERE k <> ALL (v_known) LIMIT 1;
            IF FOUND THEN
                PERFORM sluice.refuse(v_unknown, format('is no field of a job; known are %s', array_to_string(v_known, ', ')));
            END IF;
            v_model := coalesce(v_line.job ->> 'model',
                CASE WHEN json_typeof(v_line.job -> 'body') = 'object' THEN v_line.job -> 'body' ->> 'model' END);
            PERFORM sluice.check_submit(
                v_line.job -> 'body', coalesce(v_line.job ->> 'path', '/v1/chat/completions'),
                coalesce(v_line.job ->> 'queue', 'default'), v_model,
                coalesce((v_line.job ->> 'priority')::integer, 3), v_line.job ->> 'idempotency_key',
                (v_line.job ->> 'run_at')::timestamptz, (v_line.job ->> 'deadline')::timestamptz,
                (v_line.job ->> 'max_attempts')::integer, coalesce((v_line.job -> 'tags')::jsonb, '{}'),
                coalesce(v_line.job ->> 'on_unknown', 'retry'));
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION 'jobs[%]: %', v_line.at, SQLERRM USING ERRCODE = 'invalid_parameter_value';
        END;
        v_ids := v_ids || sluice.uuid_v7();
        v_queues := v_queues || coalesce(v_line.job ->> 'queue', 'default');
        v_models := v_models || v_model;
        v_paths := v_paths || coalesce(v_line.job ->> 'path', '/v1/chat/completions');
        v_priorities := v_priorities || coalesce((v_line.job ->> 'priority')::smallint, 3::smallint);
        v_keys := array_append(v_keys, v_line.job ->> 'idempotency_key');
        v_run_ats := array_append(v_run_ats, (v_line.job ->> 'run_at')::timestamptz);
        v_deadlines := array_append(v_deadlines, (v_line.job ->> 'deadline')::timestamptz);
        v_max_attempts := array_append(v_max_attempts, (v_line.job ->> 'max_attempts')::smallint);
        v_holds := v_holds || (coalesce(v_line.job ->> 'on_unknown', 'retry') = 'hold');
        v_tags := v_tags || coalesce((v_line.job -> 'tags')::jsonb, '{}'::jsonb);
        v_bodies := v_bodies || convert_to((v_line.job -> 'body')::text, 'UTF8');
    END LOOP;
    IF v_count = 0 THEN
        RETURN;
    END IF;
    SELECT array_agg(b.job_id ORDER BY b.ordinal) AS ids,
           min(b.ordinal) FILTER (WHERE b.verdict = 'other_content') AS refused
    INTO v_answer
    FROM sluice.submit_batch(v_ids, array_fill('default'::text, ARRAY[v_count]), v_queues, v_models, v_paths,
        v_priorities, v_keys, v_run_ats, v_deadlines, v_max_attempts, v_holds, v_tags,
        array_fill(NULL::text, ARRAY[v_count]), v_bodies, 2000) AS b;
    IF v_answer.refused IS NOT NULL THEN
        RAISE EXCEPTION 'jobs[%]: idempotency_key: was used with another path, model or body by job %',
            v_answer.refused - 1, v_answer.ids[v_answer.refused]
            USING ERRCODE = 'unique_violation', COLUMN = 'idempotency_key';
    END IF;
    PERFORM sluice.wake_sleepers();
    RETURN QUERY SELECT u.id FROM unnest(v_answer.ids) AS u(id);
END $$;
COMMENT ON FUNCTION sluice.submit_many(json) IS
    'Submits an array of {body, path?, model?, queue?, priority?, idempotency_key?, run_at?, deadline?, max_attempts?, on_unknown?, tags?} and returns their ids in order; one bad element refuses all, and the error names it.';

CREATE FUNCTION sluice.text_or_null(p_bytes bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN convert_from(p_bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sluice.text_or_null(bytea) IS 'The text that bytes hold, or null where they are no UTF-8 or hold NUL.';

CREATE FUNCTION sluice.job(id uuid)
    RETURNS TABLE (
        job_id uuid, state text, queue text, model text, path text, priority integer, attempts integer,
        max_attempts integer, generation integer, run_at timestamptz, created_at timestamptz,
        started_at timestamptz, finished_at timestamptz, deadline timestamptz, idempotency_key text, tags jsonb,
        status_code integer, result text, result_bytes bytea, late boolean, cached boolean, usage jsonb,
        cost_usd numeric, error_class text, error text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT d.id, d.state::text, d.queue, d.model, d.path, d.priority, d.tries, d.max_attempts, d.generation, d.run_at,
           d.created_at, d.started_at, d.finished_at, d.deadline, d.idempotency_key, d.tags, d.status_code,
           sluice.text_or_null(d.body), d.body, d.is_late, d.is_cached,
           CASE WHEN d.input_tokens IS NOT NULL OR d.output_tokens IS NOT NULL THEN jsonb_build_object(
               'input_tokens', d.input_tokens, 'cached_input_tokens', d.cached_input_tokens,
               'output_tokens', d.output_tokens, 'reasoning_tokens', d.reasoning_tokens) END,
           d.cost_nano_usd / 1e9, d.error_class, d.error_message
    FROM sluice.job_details(ARRAY[id], true) d
    WHERE d.tenant = 'default'
$$;
COMMENT ON FUNCTION sluice.job(uuid) IS
    'A job with its state, result and error. result is the provider''s text (null where it is no UTF-8: then read result_bytes).';

CREATE FUNCTION sluice.cancel(id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_answer text := sluice.cancel_job('default', id);
BEGIN
    IF v_answer = 'unknown' THEN
        RAISE EXCEPTION 'there is no job %', id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN CASE v_answer WHEN 'already_cancelled' THEN 'cancelled' ELSE v_answer END;
END $$;
COMMENT ON FUNCTION sluice.cancel(uuid) IS
    'Cancels a job; returns cancelled, or succeeded or failed where it had ended before.';

CREATE FUNCTION sluice.replay(id uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_answer text := sluice.replay_job('default', id, interval '0');
BEGIN
    IF v_answer = 'unknown' THEN
        RAISE EXCEPTION 'there is no job %', id USING ERRCODE = 'no_data_found';
    ELSIF v_answer <> 'queued' THEN
        RAISE EXCEPTION 'job % has not ended: only a job that succeeded, failed or was cancelled can be replayed', id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM sluice.wake_sleepers();
END $$;
COMMENT ON FUNCTION sluice.replay(uuid) IS 'Starts an ended job again as a new generation.';

CREATE FUNCTION sluice.replay_failed(filter jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_known text[] := ARRAY['queue', 'model', 'error_class', 'tags', 'created_after', 'created_before', 'limit'];
    v_unknown text;
    v_left bigint := coalesce((filter ->> 'limit')::bigint, 9223372036854775807);
    v_replayed bigint := 0;
    v_last uuid := NULL;
    v_page uuid[];
    v_job uuid;
BEGIN
    IF filter IS NULL OR jsonb_typeof(filter) <> 'object' THEN
        PERFORM sluice.refuse('filter', 'must be a JSON object');
    END IF;
    SELECT k INTO v_unknown FROM jsonb_object_keys(filter) AS k WHERE k <> ALL (v_known) LIMIT 1;
    IF FOUND THEN
        PERFORM sluice.refuse('filter', format('%s is no field; known are %s', quote_literal(v_unknown),
            array_to_string(v_known, ', ')));
    END IF;
    IF v_left < 0 THEN
        PERFORM sluice.refuse('limit', 'must not be negative');
    END IF;
    WHILE v_left > 0 LOOP
        SELECT array_agg(m.id) INTO v_page FROM sluice.matching_jobs('default', 'failed', filter ->> 'queue',
            filter ->> 'model', filter ->> 'error_class', filter -> 'tags',
            (filter ->> 'created_after')::timestamptz, (filter ->> 'created_before')::timestamptz, v_last,
            least(v_left, 1000)::integer) AS m(id);
        EXIT WHEN v_page IS NULL;
        FOREACH v_job IN ARRAY v_page LOOP
            IF sluice.replay_job('default', v_job, interval '0') = 'queued' THEN
                v_replayed := v_replayed + 1;
                v_left := v_left - 1;
            END IF;
            v_last := v_job;
        END LOOP;
    END LOOP;
    PERFORM sluice.wake_sleepers();
    RETURN v_replayed;
END $$;
COMMENT ON FUNCTION sluice.replay_failed(jsonb) IS
    'Replays failed jobs by {queue, model, error_class, tags, created_after, created_before, limit}, each optional; returns how many.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sluice FROM PUBLIC;

DO $$
BEGIN
    CREATE ROLE sluice_submitter NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL;
    WHEN insufficient_privilege THEN
        RAISE WARNING 'may not create roles: create sluice_submitter by hand and grant it EXECUTE as docs/sql.md says';
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_submitter') THEN
        GRANT USAGE ON SCHEMA sluice TO sluice_submitter;
        GRANT EXECUTE ON FUNCTION
            sluice.submit(json, text, text, integer, text, timestamptz, timestamptz, integer, jsonb, text),
            sluice.submit_many(json), sluice.job(uuid), sluice.cancel(uuid), sluice.replay(uuid),
            sluice.replay_failed(jsonb) TO sluice_submitter;
    END IF;
END $$;
