-- Leasing from lanes that have limits: what is taken of them is taken by the statement that leases. Lanes without limits
-- go on with sluice.lease.

CREATE FUNCTION sluice.limits_open(p_limits bigint[])
    RETURNS TABLE (id bigint, window_s integer, cap bigint, version bigint, used bigint, is_changed boolean,
                   counted_below xid8, fallen_before timestamptz, tokens_per_byte real, output_tokens real,
                   opened_at timestamptz)
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
    v_now timestamptz;
BEGIN
    -- In id order, and nothing is waited for after these: no two statements can wait for each other.
    PERFORM FROM sluice.limits l WHERE l.id = ANY (p_limits) ORDER BY l.id FOR UPDATE;
    -- Under the locks, so that what was taken stands in the order of the clock.
    v_now := clock_timestamp();
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT l.id, l.window_s, l.cap, coalesce(s.version, 0) AS version, coalesce(s.used, 0) AS used,
               -- One that lies ahead is another server's: this one was restored from a dump.
               CASE WHEN s.counted_below < pg_snapshot_xmax(pg_current_snapshot()) THEN s.counted_below
                    ELSE '0' END AS counted_below,
               -- Where the clock was set back, what was taken meanwhile lies before what has fallen.
               least(s.fallen_before, v_now - sluice.limit_horizon(l.window_s)) AS falling_from,
               v_now - sluice.limit_horizon(l.window_s) AS falling_to, sluice.limit_slice(l.window_s) AS slice,
               coalesce(s.tokens_per_byte, 0.25) AS tokens_per_byte, coalesce(s.output_tokens, 512) AS output_tokens
        FROM sluice.limits l
        LEFT JOIN LATERAL (
            SELECT * FROM sluice.limit_states s WHERE s.limit_id = l.id ORDER BY s.version DESC LIMIT 1) s ON true
        WHERE l.id = ANY (p_limits)
    ), changes AS (
        DELETE FROM sluice.limit_changes c USING known k
        WHERE c.limit_id = k.id AND c.xid >= k.counted_below
        RETURNING c.limit_id, CASE WHEN c.leased_at IS NOT NULL THEN date_bin(k.slice, c.leased_at, 'epoch') END AS at,
            k.falling_to, c.amount, c.answers, c.body_bytes, c.input_tokens, c.output_tokens
    ), corrected AS (
        -- What has fallen out, or does so now, is not corrected any more: it goes with the amount that it has.
        UPDATE sluice.limit_slices s SET amount = s.amount + c.amount
        FROM (SELECT c.limit_id, c.at, sum(c.amount)::bigint AS amount FROM changes c
              WHERE c.at >= c.falling_to GROUP BY c.limit_id, c.at) c
        WHERE s.limit_id = c.limit_id AND s.at = c.at
        RETURNING c.limit_id, c.amount
    ), fallen AS (
        DELETE FROM sluice.limit_slices s USING known k
        WHERE k.window_s > 0 AND s.limit_id = k.id AND s.at >= k.falling_from AND s.at < k.falling_to
        RETURNING s.limit_id, -s.amount AS amount
    ), summed AS (
        SELECT a.limit_id, sum(a.amount) AS amount, sum(a.answers) AS answers, sum(a.body_bytes) AS body_bytes,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens
        FROM (SELECT c.limit_id, CASE WHEN c.at IS NULL THEN c.amount ELSE 0 END AS amount, c.answers, c.body_bytes,
                     c.input_tokens, c.output_tokens FROM changes c
              UNION ALL SELECT c.limit_id, c.amount, NULL, NULL, NULL, NULL FROM corrected c
              UNION ALL SELECT f.limit_id, f.amount, NULL, NULL, NULL, NULL FROM fallen f) a
        GROUP BY a.limit_id
    )
    SELECT k.id, k.window_s, k.cap, k.version, (k.used + coalesce(s.amount, 0))::bigint, s.limit_id IS NOT NULL,
           pg_snapshot_xmin(pg_current_snapshot()), k.falling_to,
           -- Of the answers that came, each counts for a twentieth.
           (CASE WHEN s.body_bytes > 0
                 THEN k.tokens_per_byte + (s.input_tokens::float8 / s.body_bytes::float8 - k.tokens_per_byte)
                      * (1 - power(0.95::float8, s.answers::float8))
                 ELSE k.tokens_per_byte END)::real,
           (CASE WHEN s.answers > 0
                 THEN k.output_tokens + (s.output_tokens::float8 / s.answers::float8 - k.output_tokens)
                      * (1 - power(0.95::float8, s.answers::float8))
                 ELSE k.output_tokens END)::real,
           v_now
    FROM known k LEFT JOIN summed s ON s.limit_id = k.id
    ORDER BY k.id;
END $$;
COMMENT ON FUNCTION sluice.limits_open(bigint[]) IS
    'Locks limits in id order, counts in what came back and what has fallen out, and says how much is used of each. The caller writes that down as the next version where it is_changed, within the same transaction.';

CREATE FUNCTION sluice.token_needs(p_places tid[], p_tokens_per_byte real, p_output_tokens real)
    RETURNS TABLE (needs bigint[], least_needs bigint[], sizes integer[])
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT array_agg(8 + ceil(b.size * p_tokens_per_byte * 1.1)::bigint
                     + coalesce(b.most, ceil(p_output_tokens * 1.1)::bigint) ORDER BY b.n),
           -- Less than this it can't be: hardly any text has fewer tokens, but pictures and sound in the body have.
           array_agg(b.size / CASE WHEN b.holds_media THEN 64 ELSE 8 END + coalesce(b.most, 1) ORDER BY b.n),
           array_agg(b.size ORDER BY b.n)
    FROM (
        SELECT n, octet_length(j.body) AS size, position(';base64,'::bytea IN j.body) > 0 AS holds_media,
               coalesce(sluice.asked_tokens(j.body, '"max_tokens"'),
                        sluice.asked_tokens(j.body, '"max_completion_tokens"'),
                        sluice.asked_tokens(j.body, '"max_output_tokens"')) AS most
        FROM generate_series(1, cardinality(p_places)) AS n
        CROSS JOIN LATERAL (SELECT r.job_id FROM sluice.ready r WHERE r.ctid = p_places[n]) r
        CROSS JOIN LATERAL (SELECT j.body FROM sluice.jobs j WHERE j.id = r.job_id LIMIT 1) j) b;
END $$;
COMMENT ON FUNCTION sluice.token_needs(tid[], real, real) IS
    'How many tokens the queued jobs at these places are taken to need, and need at the least, and the sizes of their bodies.';

CREATE FUNCTION sluice.lease_limited(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_most integer[],
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[], p_first_limits integer[], p_last_limits integer[],
    p_limits bigint[], p_lease_ids uuid[])
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
AS $$
#variable_conflict use_column
DECLARE
    -- As in sluice.lease.
    c_most CONSTANT integer := 200;
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
        WHERE q.paused_at IS NULL
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
                   greatest(0, (extract(epoch FROM v_now - t.key) * 1000)::bigint), j.traceparent, j.body,
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
    integer[], bigint[], uuid[]) IS
    'Leases as sluice.lease does, no more than the limits leave that each grant names (by the first and last place in p_limits): all of a job''s limits or none. A job that is larger than a whole limit is leased without holding any, with the word too_large. Then rows without a job: limits that have no room now (no_room), and in how many ms a window has some; and limits that nobody declared (unknown). opened_after_ms: how long after the statement came allowance was taken.';
REVOKE ALL ON FUNCTION sluice.limits_open(bigint[]), sluice.token_needs(tid[], real, real),
    sluice.lease_limited(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], integer[], integer[],
    bigint[], uuid[]) FROM PUBLIC;
