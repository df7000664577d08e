-- On an idle system a job waits for code and data that no cache holds any more, so what counts is how much is touched:
-- each statement and each expression of a function is prepared anew in each transaction, a function in SQL with
-- settings of its own is parsed and planned by every statement that calls it, and a trigger with a transition table
-- copies every row that is submitted, to find that none of them came back.

-- Without settings these become part of the statement that calls them. What they name is looked up here, once.
CREATE OR REPLACE FUNCTION sluice.lane_id(p_tenant text, p_queue text, p_model text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('x' || substr(md5(p_tenant || E'\x1f' || p_queue || E'\x1f' || p_model), 1, 16))::bit(64)::bigint;

CREATE OR REPLACE FUNCTION sluice.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    -- 48 bits of milliseconds and 12 of their fraction are fifteen digits; the version stands before the last three.
    RETURN overlay(lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 4096000)::bigint), 15, '0')
                   || substr(gen_random_uuid()::text, 20)
                   PLACING '7' FROM 13 FOR 0)::uuid;

CREATE OR REPLACE FUNCTION sluice.refuse_second_place_of_row() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
DECLARE
    v_place text;
BEGIN
    IF TG_ARGV[0] = 'ready' THEN
        SELECT p.place INTO v_place FROM (
            SELECT 'running' AS place FROM sluice.running r WHERE r.job_id = NEW.job_id
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = NEW.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = NEW.job_id AND d.generation >= NEW.generation
            LIMIT 1) p;
    ELSIF TG_ARGV[0] = 'running' THEN
        SELECT p.place INTO v_place FROM (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = NEW.job_id AND r.line = 0
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = NEW.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = NEW.job_id AND d.generation >= NEW.generation
            LIMIT 1) p;
    ELSIF TG_ARGV[0] = 'held' THEN
        SELECT p.place INTO v_place FROM (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = NEW.job_id AND r.line = 0
            UNION ALL SELECT 'running' FROM sluice.running r WHERE r.job_id = NEW.job_id
            UNION ALL SELECT 'ended' FROM sluice.done d
                      WHERE d.job_id = NEW.job_id AND d.generation >= NEW.generation
            LIMIT 1) p;
    ELSE
        SELECT p.place INTO v_place FROM (
            SELECT 'queued' AS place FROM sluice.ready r WHERE r.job_id = NEW.job_id AND r.line = 0
            UNION ALL SELECT 'running' FROM sluice.running r WHERE r.job_id = NEW.job_id
            UNION ALL SELECT 'held' FROM sluice.held h WHERE h.job_id = NEW.job_id
            LIMIT 1) p;
    END IF;
    IF v_place IS NOT NULL THEN
        RAISE EXCEPTION 'job % can not be written to % while it is %', NEW.job_id, TG_ARGV[0], v_place
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_stands_in_one_place';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER job_stands_in_one_place ON sluice.ready;
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.ready
    FOR EACH ROW WHEN (NEW.lease_no > 0 OR NEW.generation > 1)
    EXECUTE FUNCTION sluice.refuse_second_place_of_row('ready');
DROP TRIGGER job_stands_in_one_place ON sluice.held;
CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.held
    FOR EACH ROW EXECUTE FUNCTION sluice.refuse_second_place_of_row('held');
DROP FUNCTION sluice.refuse_second_place();

CREATE OR REPLACE FUNCTION sluice.check_submit(
    p_body json, p_path text, p_queue text, p_model text, p_priority integer, p_key text, p_run_at timestamptz,
    p_deadline timestamptz, p_max_attempts integer, p_tags jsonb, p_on_unknown text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_tag record;
    -- One expression: each is prepared anew in each transaction.
    v_refusal text[] := CASE
        WHEN p_body IS NULL OR json_typeof(p_body) <> 'object' THEN
            ARRAY['body', 'must be a JSON object']
        WHEN octet_length(p_body::text) > 8 * 1024 * 1024 THEN
            ARRAY['body', format('has %s bytes; at most 8388608 are allowed', octet_length(p_body::text))]
        WHEN sluice.is_nested_deeper(p_body::text, 127) THEN
            ARRAY['body', 'is nested deeper than 127 levels']
        WHEN p_path IS NULL OR p_path !~ '^(/[A-Za-z0-9_.:-]+)+$' OR p_path LIKE '%..%' OR length(p_path) > 256 THEN
            ARRAY['path', 'must start with / and hold letters, digits, /, -, _, . and : only']
        WHEN p_queue IS NULL OR p_queue !~ '^[[:alnum:]_.:-]+$' OR octet_length(p_queue) > 128 THEN
            ARRAY['queue', 'must have 1 to 128 letters, digits, -, _, . or :']
        WHEN p_queue LIKE 'run:%' THEN
            ARRAY['queue', 'must not begin with run: (those belong to sluice run)']
        WHEN p_model IS NULL OR p_model = '' OR octet_length(p_model) > 256 OR p_model ~ '[[:cntrl:]]' THEN
            ARRAY['body.model', 'must be a string of 1 to 256 bytes: which model the call asks for']
        WHEN p_priority IS NULL OR p_priority NOT BETWEEN 1 AND 5 THEN
            ARRAY['priority', 'must be 1 to 5 (5 is most urgent)']
        WHEN p_key = '' OR octet_length(p_key) > 255 OR p_key ~ '[[:cntrl:]]' THEN
            ARRAY['idempotency_key', 'must have 1 to 255 bytes without control characters']
        WHEN NOT isfinite(p_run_at) OR p_run_at > clock_timestamp() + interval '10 years' THEN
            ARRAY['run_at', 'must be within ten years from now']
        WHEN NOT isfinite(p_deadline) OR p_deadline <= clock_timestamp()
             OR p_deadline > clock_timestamp() + interval '20 years' THEN
            ARRAY['deadline', 'must be in the future and within twenty years']
        WHEN p_deadline <= p_run_at THEN
            ARRAY['deadline', 'must be later than run_at']
        WHEN p_max_attempts NOT BETWEEN 1 AND 100 THEN
            ARRAY['max_attempts', 'must be 1 to 100']
        WHEN p_on_unknown IS NULL OR p_on_unknown NOT IN ('retry', 'hold') THEN
            ARRAY['on_unknown', 'must be retry or hold']
        WHEN p_tags IS NULL OR jsonb_typeof(p_tags) <> 'object' THEN
            ARRAY['tags', 'must be an object of strings']
        END;
BEGIN
    IF v_refusal IS NOT NULL THEN
        PERFORM sluice.refuse(v_refusal[1], v_refusal[2]);
    END IF;
    IF p_tags = '{}' THEN
        RETURN;
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

-- What sluice.submit_batch does with one job that has no key, by a plan of a fifth of its size.
CREATE FUNCTION sluice.submit_one(
    p_id uuid, p_tenant text, p_queue text, p_model text, p_path text, p_priority smallint, p_run_at timestamptz,
    p_deadline timestamptz, p_max_attempts smallint, p_hold boolean, p_tags jsonb, p_traceparent text, p_body bytea,
    p_wakes boolean)
    RETURNS timestamptz
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET lock_timeout = '2s'
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
DECLARE
    v_xact xid8;
    v_key timestamptz;
BEGIN
    -- The transaction must have its id before the clock is read: whoever then sees the clock past this key and the
    -- id still running knows that an earlier row may yet appear.
    v_xact := pg_current_xact_id();
    v_key := clock_timestamp();
    WITH stored AS (
        INSERT INTO sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, deadline,
                                 max_attempts, hold_on_unknown, tags, traceparent, body)
        VALUES (p_id, p_tenant, p_queue, p_model, nullif(p_path, '/v1/chat/completions'),
                sluice.lane_id(p_tenant, p_queue, p_model), p_priority, v_key, p_deadline, p_max_attempts, p_hold,
                p_tags, p_traceparent, p_body)
    )
    INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
                              hold_on_unknown, deadline)
    VALUES (sluice.lane_id(p_tenant, p_queue, p_model), p_priority, CASE WHEN p_run_at > v_key THEN 0 ELSE 1 END,
            greatest(p_run_at, v_key), p_id, 1, 0, 0, 0, 0, p_hold, p_deadline);
    IF p_wakes THEN
        PERFORM sluice.wake_sleepers();
    END IF;
    RETURN v_key;
END $$;
COMMENT ON FUNCTION sluice.submit_one(uuid, text, text, text, text, smallint, timestamptz, timestamptz, smallint, boolean,
    jsonb, text, bytea, boolean) IS
    'Stores one job that has no idempotency key, rings sleeping workers if told to, and says when it was submitted.';
REVOKE ALL ON FUNCTION sluice.submit_one(uuid, text, text, text, text, smallint, timestamptz, timestamptz, smallint, boolean,
    jsonb, text, bytea, boolean) FROM PUBLIC;

-- It says when the jobs were submitted, so that nobody has to ask.
DROP FUNCTION sluice.submit_batch(uuid[], text[], text[], text[], text[], smallint[], text[], timestamptz[], timestamptz[],
    smallint[], boolean[], jsonb[], text[], bytea[], integer);
CREATE FUNCTION sluice.submit_batch(
    p_ids uuid[], p_tenants text[], p_queues text[], p_models text[], p_paths text[], p_priorities smallint[],
    p_keys text[], p_run_ats timestamptz[], p_deadlines timestamptz[], p_max_attempts smallint[],
    p_holds boolean[], p_tags jsonb[], p_traceparents text[], p_bodies bytea[],
    p_key_wait_ms integer)
    RETURNS TABLE (ordinal integer, job_id uuid, verdict text, created_at timestamptz)
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
    IF cardinality(p_ids) = 1 AND p_keys[1] IS NULL THEN
        created_at := sluice.submit_one(p_ids[1], p_tenants[1], p_queues[1], p_models[1], p_paths[1], p_priorities[1],
            p_run_ats[1], p_deadlines[1], p_max_attempts[1], p_holds[1], p_tags[1], p_traceparents[1], p_bodies[1],
            false);
        ordinal := 1;
        job_id := p_ids[1];
        verdict := 'created';
        RETURN NEXT;
        RETURN;
    END IF;
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
                        THEN 'existing' ELSE 'other_content' END,
                   NULL::timestamptz
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
    SELECT i.ordinal::integer, i.id, 'created', v_key FROM input i;
END $$;
COMMENT ON FUNCTION sluice.submit_batch(uuid[], text[], text[], text[], text[], smallint[], text[], timestamptz[],
    timestamptz[], smallint[], boolean[], jsonb[], text[], bytea[], integer) IS
    'Stores jobs that were checked. A row for each: its place in the input, the job''s id, created, existing or other_content, and if created, when.';
REVOKE ALL ON FUNCTION sluice.submit_batch(uuid[], text[], text[], text[], text[], smallint[], text[], timestamptz[],
    timestamptz[], smallint[], boolean[], jsonb[], text[], bytea[], integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION sluice.submit(
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
    v_id uuid := sluice.uuid_v7();
    v_answer record;
BEGIN
    PERFORM sluice.check_submit(body, path, queue, v_model, priority, idempotency_key, run_at, deadline, max_attempts,
        tags, on_unknown);
    IF idempotency_key IS NULL THEN
        PERFORM sluice.submit_one(v_id, 'default', queue, v_model, path, priority::smallint, run_at, deadline,
            max_attempts::smallint, on_unknown = 'hold', tags, NULL, convert_to(body::text, 'UTF8'), true);
    ELSE
        SELECT b.job_id, b.verdict INTO v_answer FROM sluice.submit_batch(
            ARRAY[v_id], ARRAY['default'], ARRAY[queue], ARRAY[v_model], ARRAY[path],
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

-- One statement picks from both lines, and whether the incarnation lives is seen with the grants. Fresh jobs are leased
-- whatever the clock says; where it was set back by an hour, those that waited would else wait for an hour more.
CREATE OR REPLACE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[],
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[], p_lease_ids uuid[])
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea)
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
    -- Rows of one statement: so many fit a row of ledger_begun, which must fit a page.
    c_most CONSTANT integer := 200;
    -- Read once: a volatile clock in WHERE is a filter and no bound of the index scan.
    v_now timestamptz := clock_timestamp();
    v_left integer := coalesce(cardinality(p_lease_ids), 0);
    v_used integer := 0;
    v_want integer;
    v_got integer;
    v_grant record;
    v_places tid[];
BEGIN
    FOR v_grant IN
        SELECT g.lane, g.priority, g.most, g.returned_floor, g.fresh_floor
        FROM sluice.incarnations i
        CROSS JOIN unnest(p_lanes, p_priorities, p_limits, p_returned_floors, p_fresh_floors) WITH ORDINALITY
             AS g(lane, priority, most, returned_floor, fresh_floor, ordinal)
        LEFT JOIN sluice.lanes l ON l.id = g.lane
        LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
        WHERE i.id = p_incarnation AND i.dead_at IS NULL AND q.paused_at IS NULL
        ORDER BY g.ordinal
    LOOP
        v_want := least(v_grant.most, v_left);
        WHILE v_want > 0 LOOP
            -- Picked by a statement of its own, so that no plan can pick twice. The line of what came back is walked
            -- first; rows are locked one by one, until there are enough.
            v_places := ARRAY(
                SELECT picked.place
                FROM unnest(ARRAY[v_grant.returned_floor, v_grant.fresh_floor]) WITH ORDINALITY AS l(floor, ordinal)
                CROSS JOIN LATERAL (
                    SELECT r.ctid AS place
                    FROM sluice.ready r
                    WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = l.ordinal - 1
                      -- A floor that lies ahead of the clock comes from before the clock was set back.
                      AND r.key >= CASE WHEN l.floor <= v_now THEN l.floor ELSE '-infinity' END
                      -- What was scheduled or came back waits for its time. What is fresh never does: a key ahead of
                      -- the clock was given before the clock was set back.
                      AND r.key <= CASE WHEN l.ordinal = 1 THEN v_now ELSE 'infinity' END
                      AND (r.deadline IS NULL OR r.deadline > v_now)
                    ORDER BY r.key
                    LIMIT least(v_want, c_most)
                    FOR UPDATE SKIP LOCKED) picked
                LIMIT least(v_want, c_most));
            v_got := cardinality(v_places);
            EXIT WHEN v_got = 0;
            RETURN QUERY
            WITH taken AS (
                DELETE FROM sluice.ready r USING generate_series(1, v_got) AS n
                WHERE r.ctid = v_places[n]
                RETURNING r.job_id, p_lease_ids[v_used + n] AS lease_id, r.lease_no + 1 AS lease_no, r.generation,
                    r.tries, r.crashes, r.refusals, r.lane_id, r.priority, r.hold_on_unknown, r.deadline, r.key
            ), leased AS (
                INSERT INTO sluice.running
                    (job_id, lease_id, incarnation_id, lane_id, priority, generation, lease_no, tries, crashes,
                     refusals, hold_on_unknown, deadline, leased_at)
                SELECT t.job_id, t.lease_id, p_incarnation, t.lane_id, t.priority, t.generation, t.lease_no,
                       t.tries, t.crashes, t.refusals, t.hold_on_unknown, t.deadline, v_now
                FROM taken t
            ), begun AS (
                INSERT INTO sluice.ledger_begun (id, incarnation_id, begun_at, job_ids, lease_ids, lease_nos)
                SELECT sluice.uuid_v7(), p_incarnation, v_now, array_agg(t.job_id), array_agg(t.lease_id),
                       CASE WHEN max(t.lease_no) > 1 THEN array_agg(t.lease_no) END
                FROM taken t
            )
            SELECT t.job_id, t.lease_id, t.lane_id, t.generation, t.lease_no, t.tries, t.crashes, t.refusals,
                   j.max_attempts, t.hold_on_unknown, t.priority, j.tenant, j.queue, j.model,
                   coalesce(j.path, '/v1/chat/completions'),
                   (extract(epoch FROM t.deadline - v_now) * 1000)::bigint,
                   greatest(0, (extract(epoch FROM v_now - t.key) * 1000)::bigint), j.traceparent, j.body
            FROM taken t
            CROSS JOIN LATERAL (
                SELECT j.max_attempts, j.tenant, j.queue, j.model, j.path, j.traceparent, j.body
                FROM sluice.jobs j WHERE j.id = t.job_id LIMIT 1) j;
            v_used := v_used + v_got;
            v_left := v_left - v_got;
            v_want := v_want - v_got;
            EXIT WHEN v_got < c_most;
        END LOOP;
        EXIT WHEN v_left <= 0;
    END LOOP;
    IF NOT FOUND AND NOT EXISTS (
        SELECT FROM sluice.incarnations i WHERE i.id = p_incarnation AND i.dead_at IS NULL) THEN
        RAISE EXCEPTION 'incarnation % is dead', p_incarnation USING ERRCODE = 'SL001';
    END IF;
END $$;
