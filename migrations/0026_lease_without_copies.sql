-- Leasing without copies: rows are picked into an array of places, and deleted by place and position. The caller brings
-- the lease ids, made by its own generator of random numbers: in the database one costs as much as an index entry.

ALTER TABLE sluice.ledger_begun ALTER COLUMN lease_nos DROP NOT NULL;
COMMENT ON COLUMN sluice.ledger_begun.lease_nos IS 'Which lease of its job each is, from 1; null: the first of each.';
ALTER TABLE sluice.jobs ALTER COLUMN path DROP NOT NULL;
COMMENT ON COLUMN sluice.jobs.path IS 'The API path that it calls; null: /v1/chat/completions.';

CREATE FUNCTION sluice.lease(
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
    v_floor timestamptz;
    v_places tid[];
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
            v_floor := CASE v_line WHEN 0 THEN v_grant.returned_floor ELSE v_grant.fresh_floor END;
            -- A floor that lies ahead of the clock comes from before the clock was set back.
            IF v_floor IS NULL OR v_floor > v_now THEN
                v_floor := '-infinity';
            END IF;
            WHILE v_want > 0 LOOP
                -- Picked by a statement of its own, so that no plan can pick twice.
                v_places := ARRAY(
                    SELECT r.ctid
                    FROM sluice.ready r
                    WHERE r.lane_id = v_grant.lane AND r.priority = v_grant.priority AND r.line = v_line
                      AND r.key >= v_floor AND r.key <= v_now AND (r.deadline IS NULL OR r.deadline > v_now)
                    ORDER BY r.key
                    LIMIT least(v_want, c_most)
                    FOR UPDATE SKIP LOCKED);
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
            EXIT WHEN v_want <= 0;
        END LOOP;
        EXIT WHEN v_left <= 0;
    END LOOP;
END $$;
COMMENT ON FUNCTION sluice.lease(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], uuid[]) IS
    'Leases jobs of the named (lane, priority) pairs in their order, so many of each at most and in all as there are lease ids, from the given floors of their lines on (null: from the beginning); each on the begun half of the ledger. Lease ids are random and never given twice. Raises SL001 for a dead incarnation.';
REVOKE ALL ON FUNCTION sluice.lease(uuid, bigint[], smallint[], integer[], timestamptz[], timestamptz[], uuid[])
    FROM PUBLIC;

-- As programs before this version call it.
CREATE OR REPLACE FUNCTION sluice.lease(
    p_incarnation uuid, p_lanes bigint[], p_priorities smallint[], p_limits integer[], p_total integer,
    p_returned_floors timestamptz[], p_fresh_floors timestamptz[])
    RETURNS TABLE (
        job_id uuid, lease_id uuid, lane_id bigint, generation integer, lease_no integer, tries smallint,
        crashes smallint, refusals smallint, max_attempts smallint, hold_on_unknown boolean, priority smallint,
        tenant text, queue text, model text, path text, deadline_in_ms bigint, waited_ms bigint, traceparent text,
        body bytea)
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT * FROM sluice.lease(p_incarnation, p_lanes, p_priorities, p_limits, p_returned_floors, p_fresh_floors,
        ARRAY(SELECT gen_random_uuid() FROM generate_series(1, least(p_total, 10000))))
$$;
