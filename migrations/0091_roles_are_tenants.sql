-- Roles of the database as tenants. The public functions act for the tenant of the role that logged in (session_user: SET
-- ROLE changes it as little as SECURITY DEFINER does), which is `default` for a role that is not named here.

CREATE TABLE sluice.role_tenants (
    role name NOT NULL,
    tenant text NOT NULL,
    CONSTRAINT role_tenants_pkey PRIMARY KEY (role),
    CONSTRAINT role_tenants_tenant FOREIGN KEY (tenant) REFERENCES sluice.tenants (name)
);
COMMENT ON TABLE sluice.role_tenants IS 'For which tenant a role of the database acts; one that is not here acts for default.';
COMMENT ON COLUMN sluice.role_tenants.role IS 'The role that logs in.';
COMMENT ON COLUMN sluice.role_tenants.tenant IS 'Its tenant.';

CREATE FUNCTION sluice.session_tenant() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT coalesce((SELECT t.tenant FROM sluice.role_tenants t WHERE t.role = session_user), 'default')
$$;
COMMENT ON FUNCTION sluice.session_tenant() IS 'The tenant that this session acts for.';
REVOKE ALL ON FUNCTION sluice.session_tenant() FROM PUBLIC;

CREATE FUNCTION sluice.assign_role(role name, tenant text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF tenant IS NULL OR tenant !~ '^[[:alnum:]_.:-]+$' OR octet_length(tenant) > 64 THEN
        PERFORM sluice.refuse('tenant', 'must have 1 to 64 letters, digits, -, _, . or :');
    ELSIF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
        PERFORM sluice.refuse('role', format('there is no role %s', quote_literal(role)));
    END IF;
    INSERT INTO sluice.tenants (name) VALUES (tenant) ON CONFLICT ON CONSTRAINT tenants_pkey DO NOTHING;
    INSERT INTO sluice.role_tenants AS t (role, tenant) VALUES (role, tenant)
    ON CONFLICT ON CONSTRAINT role_tenants_pkey DO UPDATE SET tenant = excluded.tenant;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'sluice_submitter') THEN
        BEGIN
            EXECUTE format('GRANT sluice_submitter TO %I', role);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'may not grant sluice_submitter: let somebody who may grant it to %', role;
        END;
    END IF;
END $$;
COMMENT ON FUNCTION sluice.assign_role(name, text) IS
    'Has a role of the database act for a tenant from now on, and lets it use the public functions. For the owner of the schema.';
REVOKE ALL ON FUNCTION sluice.assign_role(name, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION sluice.submit(
    body json, path text DEFAULT '/v1/chat/completions', queue text DEFAULT 'default', priority integer DEFAULT 3,
    idempotency_key text DEFAULT NULL, run_at timestamptz DEFAULT NULL, deadline timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL, tags jsonb DEFAULT '{}', on_unknown text DEFAULT 'retry') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_tenant text := coalesce((SELECT t.tenant FROM sluice.role_tenants t WHERE t.role = session_user), 'default');
    v_model text := CASE WHEN json_typeof(body) = 'object' AND json_typeof(body -> 'model') = 'string'
                         THEN body ->> 'model' END;
    v_id uuid := sluice.uuid_v7();
    v_answer record;
BEGIN
    PERFORM sluice.check_submit(body, path, queue, v_model, priority, idempotency_key, run_at, deadline, max_attempts,
        tags, on_unknown);
    IF idempotency_key IS NULL THEN
        PERFORM sluice.submit_one(v_id, v_tenant, queue, v_model, path, priority::smallint, run_at, deadline,
            max_attempts::smallint, on_unknown = 'hold', tags, NULL, convert_to(body::text, 'UTF8'), true);
    ELSE
        SELECT b.job_id, b.verdict INTO v_answer FROM sluice.submit_batch(
            ARRAY[v_id], ARRAY[v_tenant], ARRAY[queue], ARRAY[v_model], ARRAY[path],
            ARRAY[priority::smallint], ARRAY[idempotency_key], ARRAY[run_at], ARRAY[deadline],
            ARRAY[max_attempts::smallint], ARRAY[on_unknown = 'hold'], ARRAY[tags], ARRAY[NULL::text],
            ARRAY[convert_to(body::text, 'UTF8')], 2000) AS b;
        IF v_answer.verdict = 'other_content' THEN
            RAISE EXCEPTION 'idempotency_key: was used with another path, model or body by job %', v_answer.job_id
                USING ERRCODE = 'unique_violation', COLUMN = 'idempotency_key';
        END IF;
        v_id := v_answer.job_id;
        PERFORM sluice.wake_sleepers();
    END IF;
    RETURN v_id;
END $$;

CREATE OR REPLACE FUNCTION sluice.submit_many(jobs json) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_tenant text := coalesce((SELECT t.tenant FROM sluice.role_tenants t WHERE t.role = session_user), 'default');
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
    FROM sluice.submit_batch(v_ids, array_fill(v_tenant, ARRAY[v_count]), v_queues, v_models, v_paths,
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

CREATE OR REPLACE FUNCTION sluice.job(id uuid)
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
    WHERE d.tenant = sluice.session_tenant()
$$;

CREATE OR REPLACE FUNCTION sluice.cancel(id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_tenant text := coalesce((SELECT t.tenant FROM sluice.role_tenants t WHERE t.role = session_user), 'default');
    v_answer text := sluice.cancel_job(v_tenant, id);
BEGIN
    IF v_answer = 'unknown' THEN
        RAISE EXCEPTION 'there is no job %', id USING ERRCODE = 'no_data_found';
    ELSIF v_answer = 'busy' THEN
        -- It has no word of its own: whoever calls has a way to try a transaction again.
        RAISE EXCEPTION 'job % moved at each of ten looks; try again', id USING ERRCODE = 'serialization_failure';
    ELSIF v_answer = 'cancelled' THEN
        PERFORM pg_notify('sluice_ended', '');
        -- A lease is named there only where the job was running.
        IF (SELECT d.lease_id IS NOT NULL FROM sluice.done d
            WHERE d.job_id = cancel.id ORDER BY d.generation DESC LIMIT 1) THEN
            PERFORM pg_notify('sluice_cancelled', '');
        END IF;
    END IF;
    RETURN CASE v_answer WHEN 'already_cancelled' THEN 'cancelled' ELSE v_answer END;
END $$;

CREATE OR REPLACE FUNCTION sluice.replay(id uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_tenant text := coalesce((SELECT t.tenant FROM sluice.role_tenants t WHERE t.role = session_user), 'default');
    v_answer text := sluice.replay_job(v_tenant, id, interval '0');
BEGIN
    IF v_answer = 'unknown' THEN
        RAISE EXCEPTION 'there is no job %', id USING ERRCODE = 'no_data_found';
    ELSIF v_answer <> 'queued' THEN
        RAISE EXCEPTION 'job % has not ended: only a job that succeeded, failed or was cancelled can be replayed', id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM sluice.wake_sleepers();
END $$;

CREATE OR REPLACE FUNCTION sluice.replay_failed(filter jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_tenant text := coalesce((SELECT t.tenant FROM sluice.role_tenants t WHERE t.role = session_user), 'default');
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
        SELECT array_agg(m.id) INTO v_page FROM sluice.matching_jobs(v_tenant, 'failed', filter ->> 'queue',
            filter ->> 'model', filter ->> 'error_class', filter -> 'tags',
            (filter ->> 'created_after')::timestamptz, (filter ->> 'created_before')::timestamptz, v_last,
            least(v_left, 1000)::integer) AS m(id);
        EXIT WHEN v_page IS NULL;
        FOREACH v_job IN ARRAY v_page LOOP
            IF sluice.replay_job(v_tenant, v_job, interval '0') = 'queued' THEN
                v_replayed := v_replayed + 1;
                v_left := v_left - 1;
            END IF;
            v_last := v_job;
        END LOOP;
    END LOOP;
    PERFORM sluice.wake_sleepers();
    RETURN v_replayed;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_submitter') THEN
        GRANT EXECUTE ON FUNCTION sluice.session_tenant() TO sluice_submitter;
    END IF;
END $$;
