-- Tokens on their way from the worker that makes a call to the scheduler whose client waits for them. Unlogged: they are
-- worth nothing after a crash of the server, since a job's result is stored by itself; and writing them then costs no
-- flush of the log.

CREATE UNLOGGED TABLE sluice.stream_waits (
    job_id uuid NOT NULL,
    until timestamptz NOT NULL,
    CONSTRAINT stream_waits_pkey PRIMARY KEY (job_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX stream_waits_until ON sluice.stream_waits (until);

COMMENT ON TABLE sluice.stream_waits IS 'Jobs whose tokens somebody waits for. For all others nothing is written.';
COMMENT ON COLUMN sluice.stream_waits.job_id IS 'The job.';
COMMENT ON COLUMN sluice.stream_waits.until IS
    'Until when, by the database clock: who waits moves it on, and who went away may come back before it.';

CREATE UNLOGGED TABLE sluice.stream_events (
    job_id uuid NOT NULL,
    lease_no integer NOT NULL,
    event_no integer NOT NULL,
    data bytea,
    CONSTRAINT stream_events_pkey PRIMARY KEY (job_id, lease_no, event_no)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

COMMENT ON TABLE sluice.stream_events IS
    'The events of streamed answers, kept for minutes. A job''s result is in sluice.done, whether or not they are here.';
COMMENT ON COLUMN sluice.stream_events.job_id IS 'The job.';
COMMENT ON COLUMN sluice.stream_events.lease_no IS 'The attempt: which lease of the job.';
COMMENT ON COLUMN sluice.stream_events.event_no IS 'The place of the event in the attempt''s stream, from 0, without gaps.';
COMMENT ON COLUMN sluice.stream_events.data IS
    'The data of the event, as the provider sent it; null: the stream broke off here, and the answer is no result.';

REVOKE ALL ON sluice.stream_waits, sluice.stream_events FROM PUBLIC;

CREATE FUNCTION sluice.stream_write(
    p_asked uuid[], p_jobs uuid[], p_lease_nos integer[], p_event_nos integer[], p_data bytea[])
    RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
DECLARE
    v_waited uuid[];
BEGIN
    SELECT array_agg(w.job_id) INTO v_waited
    FROM unnest(p_asked) AS a(job_id)
    CROSS JOIN LATERAL (SELECT w.job_id FROM sluice.stream_waits w
                        WHERE w.job_id = a.job_id AND w.until > clock_timestamp() LIMIT 1) w;
    IF v_waited IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO sluice.stream_events (job_id, lease_no, event_no, data)
    SELECT e.job_id, e.lease_no, e.event_no, e.data
    FROM unnest(p_jobs, p_lease_nos, p_event_nos, p_data) AS e(job_id, lease_no, event_no, data)
    WHERE e.job_id = ANY (v_waited)
    -- One whose acknowledgement was lost is written again.
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM pg_notify('sluice_streamed', '');
    END IF;
    RETURN QUERY SELECT unnest(v_waited);
END $$;
COMMENT ON FUNCTION sluice.stream_write(uuid[], uuid[], integer[], integer[], bytea[]) IS
    'Writes events of streams that somebody waits for, rings, and says which of the jobs that were asked about somebody waits for.';
REVOKE ALL ON FUNCTION sluice.stream_write(uuid[], uuid[], integer[], integer[], bytea[]) FROM PUBLIC;
