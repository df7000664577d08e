-- The board stops before a pair that is known.

-- What lies before the next known pair was asked for by `(lane_id, priority) < (…)`. An index stops a scan by the first
-- column of such a comparison alone: each look walked the whole lane of the known pair, ten million entries long if so many
-- waited. Now other lanes are looked for first, then lesser priorities of this lane, each within a bound of one column.
CREATE OR REPLACE FUNCTION sluice.board(
    p_tenant text, p_queues text[], p_lanes bigint[], p_priorities smallint[], p_returned_floors timestamptz[],
    p_fresh_floors timestamptz[])
    RETURNS TABLE (lane_id bigint, priority smallint, is_open boolean, tenant text, queue text, model text,
                   returned_key timestamptz, fresh_key timestamptz, read_at timestamptz, oldest_xid bigint,
                   next_xid bigint)
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
    -- The clock and the oldest transaction before anything is read, the next transaction after: the bounds hold for
    -- each of the reads between.
    v_now timestamptz := clock_timestamp();
    v_oldest bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    v_lane bigint := -9223372036854775808;
    v_priority smallint := -1;
    v_at integer := 1;
    v_count integer := coalesce(cardinality(p_lanes), 0);
    v_returned_floor timestamptz;
    v_fresh_floor timestamptz;
    v_known record;
    v_has_work boolean := false;
BEGIN
    LOOP
        IF v_at <= v_count THEN
            SELECT n.lane_id, n.priority INTO v_lane, v_priority
            FROM (
                (SELECT r.lane_id, r.priority FROM sluice.ready r
                 WHERE (r.lane_id, r.priority) > (v_lane, v_priority) AND r.lane_id < p_lanes[v_at]
                 ORDER BY r.lane_id, r.priority
                 LIMIT 1)
                UNION ALL
                (SELECT r.lane_id, r.priority FROM sluice.ready r
                 WHERE r.lane_id = p_lanes[v_at] AND r.priority < p_priorities[v_at]
                   AND r.priority > CASE WHEN v_lane = p_lanes[v_at] THEN v_priority ELSE (-1)::smallint END
                 ORDER BY r.priority
                 LIMIT 1)) n
            LIMIT 1;
        ELSE
            SELECT r.lane_id, r.priority INTO v_lane, v_priority
            FROM sluice.ready r
            WHERE (r.lane_id, r.priority) > (v_lane, v_priority)
            ORDER BY r.lane_id, r.priority
            LIMIT 1;
        END IF;
        v_returned_floor := '-infinity';
        v_fresh_floor := '-infinity';
        IF NOT FOUND THEN
            EXIT WHEN v_at > v_count;
            v_lane := p_lanes[v_at];
            v_priority := p_priorities[v_at];
            -- A floor that lies ahead of the clock comes from before the clock was set back.
            IF p_returned_floors[v_at] <= v_now THEN
                v_returned_floor := p_returned_floors[v_at];
            END IF;
            IF p_fresh_floors[v_at] <= v_now THEN
                v_fresh_floor := p_fresh_floors[v_at];
            END IF;
            v_at := v_at + 1;
        END IF;

        SELECT l.tenant, l.queue, l.model, q.paused_at INTO v_known
        FROM sluice.lanes l
        LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
        WHERE l.id = v_lane;
        IF NOT FOUND THEN
            INSERT INTO sluice.lanes (id, tenant, queue, model)
            SELECT j.lane_id, j.tenant, j.queue, j.model
            FROM (SELECT r.job_id FROM sluice.ready r WHERE r.lane_id = v_lane LIMIT 1) r
            CROSS JOIN LATERAL (SELECT * FROM sluice.jobs j WHERE j.id = r.job_id LIMIT 1) j
            ON CONFLICT DO NOTHING;
            SELECT l.tenant, l.queue, l.model, q.paused_at INTO v_known
            FROM sluice.lanes l
            LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
            WHERE l.id = v_lane;
            CONTINUE WHEN NOT FOUND;
        END IF;

        lane_id := v_lane;
        priority := v_priority;
        is_open := v_known.paused_at IS NULL
            AND (p_queues IS NULL OR v_known.queue = ANY (p_queues))
            -- A run's own queue is worked only by whoever names it.
            AND (p_queues IS NOT NULL OR v_known.queue NOT LIKE 'run:%')
            AND (p_tenant IS NULL OR v_known.tenant = p_tenant);
        tenant := v_known.tenant;
        queue := v_known.queue;
        model := v_known.model;
        SELECT r.key INTO returned_key FROM sluice.ready r
        WHERE r.lane_id = v_lane AND r.priority = v_priority AND r.line = 0 AND r.key >= v_returned_floor
        ORDER BY r.key LIMIT 1;
        SELECT r.key INTO fresh_key FROM sluice.ready r
        WHERE r.lane_id = v_lane AND r.priority = v_priority AND r.line = 1 AND r.key >= v_fresh_floor
        ORDER BY r.key LIMIT 1;
        read_at := v_now;
        v_has_work := v_has_work OR returned_key IS NOT NULL OR fresh_key IS NOT NULL;
        RETURN NEXT;
    END LOOP;
    IF v_has_work THEN
        -- An id of our own is above all that were given so far. What a snapshot calls its xmax is not: that is the one
        -- after the latest that has ended, and transactions at it or above it may be under way. Where nothing waits, no
        -- id is spent, and floors have no need to rise.
        lane_id := NULL;
        oldest_xid := v_oldest;
        next_xid := pg_current_xact_id()::text::bigint;
        RETURN NEXT;
    END IF;
END $$;
