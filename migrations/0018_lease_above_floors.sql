-- Leasing above floors. A floor of a (lane, priority, line) is a key below which no queued row is or can appear; the scan
-- starts there, and not among the dead rows that were leased before. Who leases keeps its own floors, from what the
-- board shows it: a row of floors would itself gather dead versions while an old snapshot is held.

CREATE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[], p_total integer,
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[])
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
    -- Read once: a volatile clock in WHERE is a filter and no bound of the index scan.
    v_now timestamptz := clock_timestamp();
    v_left integer := p_total;
    v_want integer;
    v_got integer;
    v_grant record;
    v_first timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM sluice.incarnations i WHERE i.id = p_incarnation AND i.dead_at IS NULL) THEN
        RAISE EXCEPTION 'incarnation % is dead', p_incarnation USING ERRCODE = 'SL001';
    END IF;
    FOR v_grant IN
        SELECT g.lane, g.priority, g.most, g.returned_floor, g.fresh_floor
        FROM unnest(p_lanes, p_priorities, p_limits, p_returned_floors, p_fresh_floors) WITH ORDINALITY
             AS g(lane, priority, most, returned_floor, fresh_floor, ordinal)
        LEFT JOIN sluice.lanes l ON l.id = g.lane
        LEFT JOIN sluice.queues q ON q.tenant = l.tenant AND q.name = l.queue
        WHERE q.paused_at IS NULL
        ORDER BY g.ordinal
    LOOP
        v_want := least(v_grant.most, v_left);
        FOR v_line IN 0 .. 1 LOOP
            EXIT WHEN v_want <= 0;
            v_first := CASE v_line WHEN 0 THEN v_grant.returned_floor ELSE v_grant.fresh_floor END;
            -- A floor that lies ahead of the clock comes from before the clock was set back.
            IF v_first IS NULL OR v_first > v_now THEN
                v_first := '-infinity';
            END IF;
            -- Most lines are empty, and the statement below costs more than a look, even where it finds nothing. What
            -- lies dead between the floor and the first row is walked here, and once only.
            SELECT r.key INTO v_first FROM sluice.ready r
            WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = v_line
              AND r.key >= v_first AND r.key <= v_now
            ORDER BY r.key LIMIT 1;
            CONTINUE WHEN NOT FOUND;
            RETURN QUERY
            WITH picked AS MATERIALIZED (
                SELECT r.ctid AS at
                FROM sluice.ready r
                WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = v_line
                  AND r.key >= v_first AND r.key <= v_now AND (r.deadline IS NULL OR r.deadline > v_now)
                ORDER BY r.key
                LIMIT v_want
                FOR UPDATE SKIP LOCKED
            ), taken AS (
                DELETE FROM sluice.ready r USING picked p WHERE r.ctid = p.at RETURNING r.*
            ), fresh AS MATERIALIZED (
                -- The one source of all that follows: joining what was inserted to what was taken would compare each
                -- row with each.
                SELECT t.*, gen_random_uuid() AS lease_id, t.lease_no + 1 AS this_lease_no,
                       row_number() OVER () / 128 AS page
                FROM taken t
            ), leased AS (
                INSERT INTO sluice.running
                    (job_id, lease_id, incarnation_id, lane_id, priority, generation, lease_no, tries, crashes,
                     refusals, hold_on_unknown, deadline, leased_at)
                SELECT f.job_id, f.lease_id, p_incarnation, f.lane_id, f.priority, f.generation, f.this_lease_no,
                       f.tries, f.crashes, f.refusals, f.hold_on_unknown, f.deadline, v_now
                FROM fresh f
            ), begun AS (
                INSERT INTO sluice.ledger_begun (id, incarnation_id, begun_at, job_ids, lease_ids, lease_nos)
                SELECT sluice.uuid_v7(), p_incarnation, v_now, array_agg(f.job_id), array_agg(f.lease_id),
                       array_agg(f.this_lease_no)
                FROM fresh f GROUP BY f.page
            )
            SELECT f.job_id, f.lease_id, f.lane_id, f.generation, f.this_lease_no, f.tries, f.crashes, f.refusals,
                   j.max_attempts, f.hold_on_unknown, f.priority, j.tenant, j.queue, j.model, j.path,
                   (extract(epoch FROM f.deadline - v_now) * 1000)::bigint,
                   greatest(0, (extract(epoch FROM v_now - f.key) * 1000)::bigint), j.traceparent, j.body
            FROM fresh f
            CROSS JOIN LATERAL (SELECT * FROM sluice.jobs j WHERE j.id = f.job_id LIMIT 1) j;
            GET DIAGNOSTICS v_got = ROW_COUNT;
            v_want := v_want - v_got;
            v_left := v_left - v_got;
        END LOOP;
        EXIT WHEN v_left <= 0;
    END LOOP;
END $$;
COMMENT ON FUNCTION sluice.lease(uuid, bigint[], smallint[], integer[], integer, timestamptz[], timestamptz[]) IS
    'Leases jobs of the named (lane, priority) pairs in their order, so many of each at most and so many in all, from the given floors of their lines on (null: from the beginning); each on the begun half of the ledger. Raises SL001 for a dead incarnation.';
REVOKE ALL ON FUNCTION sluice.lease(uuid, bigint[], smallint[], integer[], integer, timestamptz[], timestamptz[])
    FROM PUBLIC;

-- As programs before this version call it.
CREATE OR REPLACE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[], p_total integer)
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea)
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT * FROM sluice.lease(p_incarnation, p_lanes, p_priorities, p_limits, p_total, NULL, NULL)
$$;
