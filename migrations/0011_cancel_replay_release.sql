-- What people do to single jobs. Each finds the job where it stands, and looks again where it moved in between.

CREATE FUNCTION sluice.cancel_job(p_tenant text, p_job uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_row record;
    v_state text;
    v_now timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM sluice.jobs j WHERE j.id = p_job AND j.tenant = p_tenant) THEN
        RETURN 'unknown';
    END IF;
    FOR v_look IN 1 .. 10 LOOP
        v_now := clock_timestamp();
        DELETE FROM sluice.ready r WHERE r.job_id = p_job
        RETURNING r.generation, r.lane_id, r.priority, r.lease_no, r.tries, r.crashes INTO v_row;
        IF NOT FOUND THEN
            DELETE FROM sluice.held h WHERE h.job_id = p_job
            RETURNING h.generation, h.lane_id, h.priority, h.lease_no, h.tries, h.crashes INTO v_row;
        END IF;
        IF FOUND THEN
            INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries,
                                     crashes, error_class, error_message)
            VALUES (p_job, v_row.generation, 'cancelled', v_row.lane_id, v_row.priority, v_now, v_row.lease_no,
                    v_row.tries, v_row.crashes, 'cancelled', 'the job was cancelled');
            RETURN 'cancelled';
        END IF;
        DELETE FROM sluice.running r WHERE r.job_id = p_job RETURNING r.* INTO v_row;
        IF FOUND THEN
            INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_id, lease_no,
                                     tries, crashes, error_class, error_message)
            VALUES (p_job, v_row.generation, 'cancelled', v_row.lane_id, v_row.priority, v_now, v_row.lease_id,
                    v_row.lease_no, v_row.tries, v_row.crashes, 'cancelled',
                    'the job was cancelled while it ran');
            INSERT INTO sluice.cancelled_leases
                (lease_id, job_id, generation, lease_no, incarnation_id, lane_id, cancelled_at)
            VALUES (v_row.lease_id, p_job, v_row.generation, v_row.lease_no, v_row.incarnation_id, v_row.lane_id,
                    v_now);
            RETURN 'cancelled';
        END IF;
        SELECT d.state::text INTO v_state FROM sluice.done d
        WHERE d.job_id = p_job ORDER BY d.generation DESC LIMIT 1;
        -- Ended, unless it was replayed between the looks.
        IF FOUND AND NOT EXISTS (SELECT FROM sluice.ready r WHERE r.job_id = p_job)
           AND NOT EXISTS (SELECT FROM sluice.running r WHERE r.job_id = p_job)
           AND NOT EXISTS (SELECT FROM sluice.held h WHERE h.job_id = p_job) THEN
            RETURN CASE v_state WHEN 'cancelled' THEN 'already_cancelled' ELSE v_state END;
        END IF;
    END LOOP;
    RETURN 'busy';
END $$;
COMMENT ON FUNCTION sluice.cancel_job(text, uuid) IS
    'Cancels a job wherever it stands. Says cancelled, already_cancelled, succeeded or failed (too late), unknown (no such job of that tenant), or busy (it moved at each of ten looks).';

CREATE FUNCTION sluice.replay_job(p_tenant text, p_job uuid, p_delay interval) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_job record;
    v_last record;
    v_now timestamptz;
BEGIN
    SELECT j.priority, j.lane_id, j.hold_on_unknown, j.deadline INTO v_job
    FROM sluice.jobs j WHERE j.id = p_job AND j.tenant = p_tenant;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    -- The lock on the last end makes a second replay wait; what it then sees is decided by the next statement's
    -- own snapshot.
    SELECT d.generation, d.lease_no INTO v_last FROM sluice.done d
    WHERE d.job_id = p_job ORDER BY d.generation DESC LIMIT 1 FOR UPDATE;
    IF NOT FOUND
       OR EXISTS (SELECT FROM sluice.done d WHERE d.job_id = p_job AND d.generation > v_last.generation)
       OR EXISTS (SELECT FROM sluice.ready r WHERE r.job_id = p_job)
       OR EXISTS (SELECT FROM sluice.running r WHERE r.job_id = p_job)
       OR EXISTS (SELECT FROM sluice.held h WHERE h.job_id = p_job) THEN
        RETURN 'not_ended';
    END IF;
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
                              hold_on_unknown, deadline)
    VALUES (v_job.lane_id, v_job.priority, 0, v_now + p_delay, p_job, v_last.generation + 1, v_last.lease_no, 0, 0,
            0, v_job.hold_on_unknown, CASE WHEN v_job.deadline > v_now THEN v_job.deadline END);
    RETURN 'queued';
END $$;
COMMENT ON FUNCTION sluice.replay_job(text, uuid, interval) IS
    'Starts an ended job again as its next generation, after a delay; a deadline that has passed falls away. Says queued, not_ended or unknown.';

CREATE FUNCTION sluice.release_job(p_tenant text, p_job uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_row record;
    v_now timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM sluice.jobs j WHERE j.id = p_job AND j.tenant = p_tenant) THEN
        RETURN 'unknown';
    END IF;
    PERFORM pg_current_xact_id();
    v_now := clock_timestamp();
    DELETE FROM sluice.held h WHERE h.job_id = p_job RETURNING h.* INTO v_row;
    IF NOT FOUND THEN
        RETURN 'not_held';
    END IF;
    -- A person has looked: the crashes are forgiven, or it would be held again at the next one.
    INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
                              hold_on_unknown, deadline)
    VALUES (v_row.lane_id, v_row.priority, 0, v_now, p_job, v_row.generation, v_row.lease_no, v_row.tries, 0,
            v_row.refusals, v_row.hold_on_unknown, v_row.deadline);
    RETURN 'queued';
END $$;
COMMENT ON FUNCTION sluice.release_job(text, uuid) IS
    'Lets a held job go on, its crashes forgiven. Says queued, not_held or unknown.';

-- Which jobs a filter means, newest first. A null field means any.
CREATE FUNCTION sluice.matching_jobs(
    p_tenant text, p_state sluice.job_state, p_queue text, p_model text, p_error_class text, p_tags jsonb,
    p_created_after timestamptz, p_created_before timestamptz, p_before_id uuid, p_limit integer)
    RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_from uuid := CASE WHEN p_created_after IS NULL THEN '00000000-0000-0000-0000-000000000000'::uuid
                        ELSE sluice.uuid_floor(p_created_after - interval '1 day') END;
    v_to uuid := least(
        coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid),
        CASE WHEN p_created_before IS NULL THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
             ELSE sluice.uuid_floor(p_created_before + interval '1 day') END);
    v_places text;
BEGIN
    v_places := CASE p_state
        WHEN 'queued' THEN 'SELECT p.job_id FROM sluice.ready p'
        WHEN 'running' THEN 'SELECT p.job_id FROM sluice.running p'
        WHEN 'held' THEN 'SELECT p.job_id FROM sluice.held p'
        ELSE NULL
    END;
    IF p_state IN ('succeeded', 'failed', 'cancelled') OR (p_state IS NULL AND p_error_class IS NOT NULL) THEN
        v_places := format(
            'SELECT p.job_id FROM sluice.done p
             WHERE %s AND ($5 IS NULL OR p.error_class = $5)
               AND NOT EXISTS (SELECT FROM sluice.done n
                               WHERE n.job_id = p.job_id AND n.generation > p.generation)
               AND NOT EXISTS (SELECT FROM sluice.ready n WHERE n.job_id = p.job_id)
               AND NOT EXISTS (SELECT FROM sluice.running n WHERE n.job_id = p.job_id)
               AND NOT EXISTS (SELECT FROM sluice.held n WHERE n.job_id = p.job_id)',
            CASE WHEN p_state IS NULL THEN 'p.state <> ''succeeded''' ELSE format('p.state = %L', p_state) END);
    ELSIF v_places IS NOT NULL THEN
        v_places := v_places || ' WHERE ($5 IS NULL OR EXISTS (
            SELECT FROM sluice.attempts_ended e WHERE e.job_id = p.job_id AND e.error_class = $5))';
    ELSE
        v_places := 'SELECT p.id AS job_id FROM sluice.jobs p WHERE true';
    END IF;
    RETURN QUERY EXECUTE
        'SELECT j.id FROM (' || v_places || ' AND p.' || CASE WHEN p_state IS NULL AND p_error_class IS NULL
            THEN 'id' ELSE 'job_id' END || ' >= $8 AND p.' || CASE WHEN p_state IS NULL AND p_error_class IS NULL
            THEN 'id' ELSE 'job_id' END || ' < $9) p
         JOIN sluice.jobs j ON j.id = p.job_id
         WHERE j.tenant = $1 AND ($2 IS NULL OR j.queue = $2) AND ($3 IS NULL OR j.model = $3)
           AND ($4 IS NULL OR j.tags @> $4) AND ($6 IS NULL OR j.created_at >= $6)
           AND ($7 IS NULL OR j.created_at < $7)
         ORDER BY j.id DESC LIMIT $10'
        USING p_tenant, p_queue, p_model, p_tags, p_error_class, p_created_after, p_created_before, v_from, v_to,
              p_limit;
END $$;
COMMENT ON FUNCTION sluice.matching_jobs(text, sluice.job_state, text, text, text, jsonb, timestamptz, timestamptz,
    uuid, integer) IS 'The ids of the jobs that a filter means, newest first, below an id, so many at most.';
