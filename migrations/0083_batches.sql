-- Batches as OpenAI's API has them. Each line of a batch is an ordinary job. A batch is moved on by whichever scheduler has
-- claimed it; a claim that is not renewed ends by itself.

CREATE TABLE sluice.batches (
    id uuid NOT NULL,
    tenant text NOT NULL,
    endpoint text NOT NULL,
    input_file_id uuid NOT NULL,
    completion_window text NOT NULL,
    status text NOT NULL DEFAULT 'validating',
    metadata jsonb,
    queue text NOT NULL,
    priority smallint NOT NULL,
    errors jsonb,
    model text,
    total integer NOT NULL DEFAULT 0,
    completed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    usage jsonb,
    output_file_id uuid,
    error_file_id uuid,
    output_expires_s integer,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    in_progress_at timestamptz,
    finalizing_at timestamptz,
    completed_at timestamptz,
    failed_at timestamptz,
    expired_at timestamptz,
    cancelling_at timestamptz,
    cancelled_at timestamptz,
    look_at timestamptz NOT NULL,
    claimed_by uuid,
    claimed_until timestamptz,
    CONSTRAINT batches_pkey PRIMARY KEY (id),
    CONSTRAINT batches_status_is_known CHECK (status IN
        ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
    CONSTRAINT batches_priority_is_1_to_5 CHECK (priority BETWEEN 1 AND 5)
);
CREATE INDEX batches_tenant ON sluice.batches (tenant, id);
CREATE INDEX batches_open ON sluice.batches (look_at)
    WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');

COMMENT ON TABLE sluice.batches IS 'Batches, and how they stand.';
COMMENT ON COLUMN sluice.batches.id IS 'UUIDv7; clients see it as batch_ and its hex digits.';
COMMENT ON COLUMN sluice.batches.tenant IS 'Who owns it.';
COMMENT ON COLUMN sluice.batches.endpoint IS 'The path that all of its lines call.';
COMMENT ON COLUMN sluice.batches.input_file_id IS 'The file of its lines.';
COMMENT ON COLUMN sluice.batches.completion_window IS 'The window, as it was asked for.';
COMMENT ON COLUMN sluice.batches.status IS
    'validating: its file is read and its jobs are stored. failed: the file can not be used. in_progress: its jobs are worked. finalizing: its files are written. completed. expired: the window was over before all jobs had an answer. cancelling, cancelled.';
COMMENT ON COLUMN sluice.batches.metadata IS 'The user''s pairs; null: none were given.';
COMMENT ON COLUMN sluice.batches.queue IS 'The line that its jobs stand in.';
COMMENT ON COLUMN sluice.batches.priority IS 'How urgent its jobs are, 1 to 5.';
COMMENT ON COLUMN sluice.batches.errors IS 'What is wrong with its file: a list of code, message, param, line.';
COMMENT ON COLUMN sluice.batches.model IS 'The model that all of its lines ask for; null: they differ, or it is not known yet.';
COMMENT ON COLUMN sluice.batches.total IS 'Lines of its file.';
COMMENT ON COLUMN sluice.batches.completed IS 'Lines that have a result, as far as they were counted.';
COMMENT ON COLUMN sluice.batches.failed IS 'Lines that ended without one, as far as they were counted.';
COMMENT ON COLUMN sluice.batches.usage IS 'Tokens of all of its lines; null: it has not ended.';
COMMENT ON COLUMN sluice.batches.output_file_id IS 'The file of results; null: there is none.';
COMMENT ON COLUMN sluice.batches.error_file_id IS 'The file of failures; null: there is none.';
COMMENT ON COLUMN sluice.batches.output_expires_s IS 'How long its files are kept, in seconds; null: as usual.';
COMMENT ON COLUMN sluice.batches.created_at IS 'When it was submitted, by the database clock.';
COMMENT ON COLUMN sluice.batches.expires_at IS 'When its window ends.';
COMMENT ON COLUMN sluice.batches.in_progress_at IS 'When its jobs were stored.';
COMMENT ON COLUMN sluice.batches.finalizing_at IS 'When all of them had ended.';
COMMENT ON COLUMN sluice.batches.completed_at IS 'When it was completed.';
COMMENT ON COLUMN sluice.batches.failed_at IS 'When its file turned out not to be usable.';
COMMENT ON COLUMN sluice.batches.expired_at IS 'When it ended because its window was over.';
COMMENT ON COLUMN sluice.batches.cancelling_at IS 'When somebody cancelled it.';
COMMENT ON COLUMN sluice.batches.cancelled_at IS 'When it had been cancelled.';
COMMENT ON COLUMN sluice.batches.look_at IS 'When it is to be moved on, if it has not ended.';
COMMENT ON COLUMN sluice.batches.claimed_by IS 'Who moves it on: a random id for each claim.';
COMMENT ON COLUMN sluice.batches.claimed_until IS 'When the claim ends, unless it is renewed.';

CREATE TABLE sluice.batch_lines (
    batch_id uuid NOT NULL,
    line_no integer NOT NULL,
    custom_id text NOT NULL,
    job_id uuid NOT NULL,
    has_result boolean,
    CONSTRAINT batch_lines_pkey PRIMARY KEY (batch_id, line_no)
);
CREATE INDEX batch_lines_open ON sluice.batch_lines (batch_id, line_no) WHERE has_result IS NULL;

COMMENT ON TABLE sluice.batch_lines IS
    'Which job each line of a batch is. A row is there before its job, so that nobody stores the job of a line twice.';
COMMENT ON COLUMN sluice.batch_lines.batch_id IS 'The batch.';
COMMENT ON COLUMN sluice.batch_lines.line_no IS 'The line of its file, from 1; empty lines count.';
COMMENT ON COLUMN sluice.batch_lines.custom_id IS 'The user''s name for the line.';
COMMENT ON COLUMN sluice.batch_lines.job_id IS 'The job.';
COMMENT ON COLUMN sluice.batch_lines.has_result IS 'Whether the job ended with a result; null: it has not ended, or was not counted yet.';

REVOKE ALL ON sluice.batches, sluice.batch_lines FROM PUBLIC;

CREATE FUNCTION sluice.batch_count(
    p_batch uuid, p_claim uuid, p_after integer, p_limit integer)
    RETURNS TABLE (seen integer, ended integer, last_line integer)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
DECLARE
    v_good integer;
    v_bad integer;
BEGIN
    PERFORM FROM sluice.batches b WHERE b.id = p_batch AND b.claimed_by = p_claim FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH page AS MATERIALIZED (
        SELECT l.line_no, l.job_id FROM sluice.batch_lines l
        WHERE l.batch_id = p_batch AND l.has_result IS NULL AND l.line_no > p_after
        ORDER BY l.line_no LIMIT p_limit
    ), over AS MATERIALIZED (
        SELECT p.line_no, d.state = 'succeeded' AS has_result
        FROM page p
        CROSS JOIN LATERAL (
            SELECT d.state FROM sluice.done d WHERE d.job_id = p.job_id ORDER BY d.generation DESC LIMIT 1) d
        WHERE NOT EXISTS (SELECT FROM sluice.queued q WHERE q.job_id = p.job_id)
          AND NOT EXISTS (SELECT FROM sluice.running r WHERE r.job_id = p.job_id)
          AND NOT EXISTS (SELECT FROM sluice.held h WHERE h.job_id = p.job_id)
    ), marked AS (
        UPDATE sluice.batch_lines l SET has_result = o.has_result FROM over o
        WHERE l.batch_id = p_batch AND l.line_no = o.line_no
        RETURNING o.has_result
    )
    SELECT (SELECT count(*) FROM page), (SELECT max(p.line_no) FROM page p),
           (SELECT count(*) FROM marked m WHERE m.has_result), (SELECT count(*) FROM marked m WHERE NOT m.has_result)
    INTO seen, last_line, v_good, v_bad;
    ended := v_good + v_bad;
    IF ended > 0 THEN
        UPDATE sluice.batches b SET completed = b.completed + v_good, failed = b.failed + v_bad WHERE b.id = p_batch;
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION sluice.batch_count(uuid, uuid, integer, integer) IS
    'Counts which of the next open lines of a batch have ended: how many it looked at, how many of them had ended, and which was the last. No row: the claim is over.';
REVOKE ALL ON FUNCTION sluice.batch_count(uuid, uuid, integer, integer) FROM PUBLIC;
