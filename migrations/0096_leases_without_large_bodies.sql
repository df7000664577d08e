-- A transaction ends when all of its answer has gone out. A worker that stands still, or is cut off, while much is on its way
-- would keep the rows of its jobs, and the limits that they take of, until TCP gives up. So a lease answers with small bodies
-- alone: all that it says fits what a connection holds by itself. Larger ones are read after it, where nothing is locked.
--
-- Programs from before know nothing of bodies that are missing: the functions that they know answer with all.

CREATE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[],
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[], p_lease_ids uuid[], p_body_bytes integer)
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
    -- Of each job's body.
    v_body_share CONSTANT integer := coalesce(p_body_bytes / greatest(1, coalesce(cardinality(p_lease_ids), 0)), 2147483647);
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
          AND (l.closed_until IS NULL OR l.closed_until <= v_now)
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
                   greatest(0, (extract(epoch FROM v_now - t.key) * 1000)::bigint), j.traceparent,
                   CASE WHEN octet_length(j.body) <= v_body_share THEN j.body END
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
COMMENT ON FUNCTION sluice.lease(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], uuid[],
    integer) IS
    'Leases jobs of the named (lane, priority) pairs in their order, so many of each at most and in all as there are lease ids, from the given floors of their lines on (null: from the beginning); each on the begun half of the ledger. Lease ids are random and never given twice. So many bytes of bodies are answered at most, shared evenly (null: all); a larger body is null and is read with sluice.job_bodies. Raises SL001 for a dead incarnation.';

CREATE FUNCTION sluice.lease_limited(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_most integer[],
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[], p_first_limits integer[], p_last_limits integer[],
    p_limits bigint[], p_lease_ids uuid[], p_body_bytes integer)
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea, word text, limit_id bigint, needed bigint, room_in_ms bigint, opened_after_ms bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
    -- A limit that somebody holds, whatever for: its waiters must not fill the queue of its lock.
    SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    -- As in sluice.lease.
    c_most CONSTANT integer := 200;
    v_body_share CONSTANT integer := coalesce(p_body_bytes / greatest(1, coalesce(cardinality(p_lease_ids), 0)), 2147483647);
    c_unlimited CONSTANT bigint := 9000000000000000000;
    v_now timestamptz;
    v_opened_after bigint;
    v_left integer := coalesce(cardinality(p_lease_ids), 0);
    v_lease_at integer := 0;
    v_want integer;
    v_got integer;
    v_grant record;
    v_places tid[];
    -- Of all limits that are named and there, in id order.
    v_ids bigint[];
    v_windows integer[];
    v_caps bigint[];
    v_versions bigint[];
    v_used bigint[];
    v_is_changed boolean[];
    v_below xid8[];
    v_fallen timestamptz[];
    v_tokens_per_byte real[];
    v_output_tokens real[];
    v_room bigint[];
    v_taken bigint[];
    -- Those of the grant, and where they stand in the arrays; of those that count tokens, where the first and all do.
    v_holds bigint[];
    v_at integer[];
    v_of_tokens integer[];
    v_place integer;
    v_id bigint;
    v_needs bigint[];
    v_least bigint[];
    v_sizes integer[];
    v_refused bigint[];
    v_amount bigint;
    v_fits integer;
BEGIN
    IF NOT EXISTS (SELECT FROM sluice.incarnations i WHERE i.id = p_incarnation AND i.dead_at IS NULL) THEN
        RAISE EXCEPTION 'incarnation % is dead', p_incarnation USING ERRCODE = 'SL001';
    END IF;
    -- Before the clock, as in sluice.submit_batch; and it is what sluice.limit_changes stands in the order of.
    PERFORM pg_current_xact_id();
    SELECT array_agg(o.id ORDER BY o.id), array_agg(o.window_s ORDER BY o.id), array_agg(o.cap ORDER BY o.id),
           array_agg(o.version ORDER BY o.id), array_agg(o.used ORDER BY o.id), array_agg(o.is_changed ORDER BY o.id),
           array_agg(o.counted_below ORDER BY o.id), array_agg(o.fallen_before ORDER BY o.id),
           array_agg(o.tokens_per_byte ORDER BY o.id), array_agg(o.output_tokens ORDER BY o.id),
           array_agg(coalesce(o.cap - o.used, c_unlimited) ORDER BY o.id), array_agg(0 ORDER BY o.id), max(o.opened_at)
    INTO v_ids, v_windows, v_caps, v_versions, v_used, v_is_changed, v_below, v_fallen, v_tokens_per_byte,
         v_output_tokens, v_room, v_taken, v_now
    FROM sluice.limits_open(p_limits) o;
    v_now := coalesce(v_now, clock_timestamp());
    v_opened_after := greatest(0, (extract(epoch FROM v_now - statement_timestamp()) * 1000)::bigint);

    FOR v_grant IN
        SELECT g.lane, g.priority, g.most, g.returned_floor, g.fresh_floor,
               coalesce(p_limits[g.first_limit : g.last_limit], '{}') AS limits
        FROM unnest(p_lanes, p_priorities, p_most, p_returned_floors, p_fresh_floors, p_first_limits, p_last_limits)
             WITH ORDINALITY
             AS g(lane, priority, most, returned_floor, fresh_floor, first_limit, last_limit, ordinal)
        LEFT JOIN sluice.lanes l ON l.id = g.lane
        LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
        WHERE q.paused_at IS NULL AND (l.closed_until IS NULL OR l.closed_until <= v_now)
        ORDER BY g.ordinal
    LOOP
        v_want := least(v_grant.most, v_left);
        v_holds := '{}';
        v_at := '{}';
        v_of_tokens := '{}';
        FOREACH v_id IN ARRAY v_grant.limits LOOP
            v_place := array_position(v_ids, v_id);
            IF v_place IS NULL THEN
                -- Nobody has declared it: the caller's configuration is another one than that of this database.
                v_want := 0;
            ELSIF v_caps[v_place] IS NOT NULL THEN
                v_holds := v_holds || v_id;
                v_at := v_at || v_place;
                v_want := greatest(0, least(v_want, v_room[v_place]));
                IF v_id & 3 = 2 THEN
                    v_of_tokens := v_of_tokens || v_place;
                END IF;
            END IF;
        END LOOP;

        WHILE v_want > 0 LOOP
            -- Picked as in sluice.lease.
            v_places := ARRAY(
                SELECT picked.place
                FROM unnest(ARRAY[v_grant.returned_floor, v_grant.fresh_floor]) WITH ORDINALITY AS l(floor, ordinal)
                CROSS JOIN LATERAL (
                    SELECT r.ctid AS place
                    FROM sluice.ready r
                    WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = l.ordinal - 1
                      AND r.key >= CASE WHEN l.floor <= v_now THEN l.floor ELSE '-infinity' END
                      AND r.key <= CASE WHEN l.ordinal = 1 THEN v_now ELSE 'infinity' END
                      AND (r.deadline IS NULL OR r.deadline > v_now)
                    ORDER BY r.key
                    LIMIT least(v_want, c_most)
                    FOR UPDATE SKIP LOCKED) picked
                LIMIT least(v_want, c_most));
            v_got := cardinality(v_places);
            EXIT WHEN v_got = 0;
            v_fits := v_got;
            v_refused := '{}';
            IF v_of_tokens <> '{}' THEN
                SELECT t.needs, t.least_needs, t.sizes INTO v_needs, v_least, v_sizes
                FROM sluice.token_needs(v_places, v_tokens_per_byte[v_of_tokens[1]], v_output_tokens[v_of_tokens[1]]) t;
                FOR v_n IN 1 .. v_got LOOP
                    v_refused[v_n] := NULL;
                    v_amount := v_needs[v_n];
                    FOREACH v_place IN ARRAY v_of_tokens LOOP
                        IF v_least[v_n] > v_caps[v_place] THEN
                            v_refused[v_n] := v_ids[v_place];
                        END IF;
                        -- It may be smaller than it looks: then it has the whole window to itself.
                        v_amount := least(v_amount, v_caps[v_place]);
                    END LOOP;
                    v_needs[v_n] := v_amount;
                    CONTINUE WHEN v_refused[v_n] IS NOT NULL;
                    FOREACH v_place IN ARRAY v_of_tokens LOOP
                        IF v_amount > v_room[v_place] THEN
                            -- Nobody behind it takes what it waits for.
                            v_fits := least(v_fits, v_n - 1);
                            v_room[v_place] := 0;
                        END IF;
                    END LOOP;
                    EXIT WHEN v_fits < v_n;
                    FOREACH v_place IN ARRAY v_of_tokens LOOP
                        v_room[v_place] := v_room[v_place] - v_amount;
                        v_taken[v_place] := v_taken[v_place] + v_amount;
                    END LOOP;
                END LOOP;
            END IF;
            -- Those that are refused run without holding anything: their worker says so and ends them.
            v_amount := v_fits - cardinality(array_remove(v_refused[1 : v_fits], NULL));
            FOREACH v_place IN ARRAY v_at LOOP
                IF v_ids[v_place] & 3 <> 2 THEN
                    v_room[v_place] := v_room[v_place] - v_amount;
                    v_taken[v_place] := v_taken[v_place] + v_amount;
                END IF;
            END LOOP;

            RETURN QUERY
            WITH taken AS (
                DELETE FROM sluice.ready r USING generate_series(1, v_fits) AS n
                WHERE r.ctid = v_places[n]
                RETURNING r.job_id, p_lease_ids[v_lease_at + n] AS lease_id, r.lease_no + 1 AS lease_no, r.generation,
                    r.tries, r.crashes, r.refusals, r.lane_id, r.priority, r.hold_on_unknown, r.deadline, r.key,
                    v_refused[n] AS refused_by,
                    CASE WHEN v_refused[n] IS NULL THEN v_needs[n] ELSE v_least[n] END AS needed, v_sizes[n] AS size
            ), leased AS (
                INSERT INTO sluice.running
                    (job_id, lease_id, incarnation_id, lane_id, priority, generation, lease_no, tries, crashes,
                     refusals, hold_on_unknown, deadline, leased_at, limit_ids, reserved_tokens, body_bytes)
                SELECT t.job_id, t.lease_id, p_incarnation, t.lane_id, t.priority, t.generation, t.lease_no,
                       t.tries, t.crashes, t.refusals, t.hold_on_unknown, t.deadline, v_now,
                       CASE WHEN t.refused_by IS NULL THEN nullif(v_holds, '{}') END,
                       CASE WHEN t.refused_by IS NULL AND v_of_tokens <> '{}' THEN t.needed END,
                       CASE WHEN t.refused_by IS NULL AND v_of_tokens <> '{}' THEN t.size END
                FROM taken t
            ), begun AS (
                INSERT INTO sluice.ledger_begun (id, incarnation_id, begun_at, job_ids, lease_ids, lease_nos)
                SELECT sluice.uuid_v7(), p_incarnation, v_now, array_agg(t.job_id), array_agg(t.lease_id),
                       CASE WHEN max(t.lease_no) > 1 THEN array_agg(t.lease_no) END
                FROM taken t HAVING count(*) > 0
            )
            SELECT t.job_id, t.lease_id, t.lane_id, t.generation, t.lease_no, t.tries, t.crashes, t.refusals,
                   j.max_attempts, t.hold_on_unknown, t.priority, j.tenant, j.queue, j.model,
                   coalesce(j.path, '/v1/chat/completions'),
                   (extract(epoch FROM t.deadline - v_now) * 1000)::bigint,
                   greatest(0, (extract(epoch FROM v_now - t.key) * 1000)::bigint), j.traceparent,
                   CASE WHEN octet_length(j.body) <= v_body_share THEN j.body END,
                   CASE WHEN t.refused_by IS NOT NULL THEN 'too_large' END, t.refused_by,
                   CASE WHEN t.refused_by IS NOT NULL THEN t.needed END, NULL::bigint, v_opened_after
            FROM taken t
            CROSS JOIN LATERAL (
                SELECT j.max_attempts, j.tenant, j.queue, j.model, j.path, j.traceparent, j.body
                FROM sluice.jobs j WHERE j.id = t.job_id LIMIT 1) j;
            v_lease_at := v_lease_at + v_fits;
            v_left := v_left - v_fits;
            v_want := v_want - v_fits;
            EXIT WHEN v_fits < c_most;
        END LOOP;
        EXIT WHEN v_left <= 0;
    END LOOP;

    DELETE FROM sluice.limit_states s USING generate_series(1, cardinality(v_ids)) AS n
    WHERE s.limit_id = v_ids[n] AND s.version = v_versions[n] AND (v_is_changed[n] OR v_taken[n] > 0);
    INSERT INTO sluice.limit_states
        (limit_id, version, used, changed_at, counted_below, fallen_before, tokens_per_byte, output_tokens)
    SELECT v_ids[n], v_versions[n] + 1, v_used[n] + v_taken[n], v_now, v_below[n], v_fallen[n], v_tokens_per_byte[n],
           v_output_tokens[n]
    FROM generate_series(1, cardinality(v_ids)) AS n
    WHERE v_is_changed[n] OR v_taken[n] > 0;
    INSERT INTO sluice.limit_slices (limit_id, at, amount)
    SELECT v_ids[n], date_bin(sluice.limit_slice(v_windows[n]), v_now, 'epoch'), v_taken[n]
    FROM generate_series(1, cardinality(v_ids)) AS n
    WHERE v_windows[n] > 0 AND v_taken[n] > 0
    ON CONFLICT ON CONSTRAINT limit_slices_pkey DO UPDATE SET amount = limit_slices.amount + excluded.amount;

    RETURN QUERY
    SELECT NULL::uuid, NULL::uuid, NULL::bigint, NULL::integer, NULL::integer, NULL::smallint, NULL::smallint,
           NULL::smallint, NULL::smallint, NULL::boolean, NULL::smallint, NULL::text, NULL::text, NULL::text,
           NULL::text, NULL::bigint, NULL::bigint, NULL::text, NULL::bytea,
           CASE WHEN array_position(v_ids, named.id) IS NULL THEN 'unknown' ELSE 'no_room' END, named.id, NULL::bigint,
           (SELECT greatest(1, extract(epoch FROM s.at + sluice.limit_horizon(v_windows[array_position(v_ids, named.id)])
                                                  - v_now) * 1000)::bigint
            FROM sluice.limit_slices s
            WHERE s.limit_id = named.id AND s.at >= v_fallen[array_position(v_ids, named.id)]
            ORDER BY s.at LIMIT 1),
           v_opened_after
    FROM (SELECT DISTINCT u.id FROM unnest(p_limits) AS u(id)) named
    WHERE array_position(v_ids, named.id) IS NULL OR v_room[array_position(v_ids, named.id)] <= 0;
END $$;
COMMENT ON FUNCTION sluice.lease_limited(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], integer[],
    integer[], bigint[], uuid[], integer) IS
    'As the function without the last argument, which means what it does for sluice.lease. Waits at most two seconds for a limit that somebody holds (55P03).';

CREATE OR REPLACE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[],
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[], p_lease_ids uuid[])
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea)
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT * FROM sluice.lease(p_incarnation, p_lanes, p_priorities, p_limits, p_returned_floors, p_fresh_floors,
                               p_lease_ids, NULL);
$$;

CREATE OR REPLACE FUNCTION sluice.lease_limited(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_most integer[],
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[], p_first_limits integer[], p_last_limits integer[],
    p_limits bigint[], p_lease_ids uuid[])
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea, word text, limit_id bigint, needed bigint, room_in_ms bigint, opened_after_ms bigint)
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT * FROM sluice.lease_limited(p_incarnation, p_lanes, p_priorities, p_most, p_returned_floors, p_fresh_floors,
                                       p_first_limits, p_last_limits, p_limits, p_lease_ids, NULL);
$$;

CREATE FUNCTION sluice.job_bodies(p_ids uuid[]) RETURNS TABLE (id uuid, body bytea)
    -- plpgsql keeps the plan; planning over all partitions costs more than the reading.
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_seqscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT j.id, j.body FROM unnest(p_ids) AS i(id)
    CROSS JOIN LATERAL (SELECT j.id, j.body FROM sluice.jobs j WHERE j.id = i.id LIMIT 1) j;
END $$;
COMMENT ON FUNCTION sluice.job_bodies(uuid[]) IS 'The bodies of these jobs, in any order; nothing of a job that is not there.';
REVOKE ALL ON FUNCTION
    sluice.lease(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], uuid[], integer),
    sluice.lease_limited(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], integer[], integer[], bigint[],
                         uuid[], integer),
    sluice.job_bodies(uuid[])
    FROM PUBLIC;
