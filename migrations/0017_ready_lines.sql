-- A fresh job is found by its key, which is the time of its submit: an index over all waiting jobs by id costs each
-- submit and each page of ten million for what only jobs that came back need.

CREATE UNIQUE INDEX ready_returned_stands_once ON sluice.ready (job_id) WHERE line = 0;
ALTER TABLE sluice.ready DROP CONSTRAINT ready_job_stands_once;
ALTER TABLE sluice.ready
    ADD CONSTRAINT ready_fresh_is_fresh CHECK (line = 0 OR (generation = 1 AND lease_no = 0)) NOT VALID;
COMMENT ON COLUMN sluice.ready.key IS 'Not before this time, and the order within the line. Never earlier than the clock read after the inserting transaction had its id; of a fresh job, sluice.jobs.created_at.';

CREATE VIEW sluice.queued AS
    SELECT r.lane_id, r.priority, r.line, r.key, r.job_id, r.generation, r.lease_no, r.tries, r.crashes, r.refusals,
           r.hold_on_unknown, r.deadline, r.ctid AS at
    FROM sluice.ready r WHERE r.line = 0
    UNION ALL
    SELECT r.lane_id, r.priority, r.line, r.key, j.id, r.generation, r.lease_no, r.tries, r.crashes, r.refusals,
           r.hold_on_unknown, r.deadline, r.ctid
    FROM sluice.jobs j
    JOIN sluice.ready r ON r.lane_id = j.lane_id AND r.priority = j.priority AND r.line = 1 AND r.key = j.created_at
                       AND r.job_id = j.id;
COMMENT ON VIEW sluice.queued IS 'Queued jobs as they are found by id: those that came back by their index, fresh ones by the key that their submit gave them. "at" is where the row lies in sluice.ready.';

-- A view's columns mean what those of its table mean.
DO $$
DECLARE
    v_column record;
BEGIN
    FOR v_column IN
        SELECT pair.view, a.attname, col_description(t.attrelid, t.attnum) AS meaning
        FROM (VALUES ('attempts_ended', 'ledger_ended'), ('attempts_begun', 'ledger_ended'), ('queued', 'ready'))
             AS pair(view, base)
        JOIN pg_attribute a ON a.attrelid = ('sluice.' || pair.view)::regclass AND a.attnum > 0
        JOIN pg_attribute t ON t.attrelid = ('sluice.' || pair.base)::regclass AND t.attname = a.attname
    LOOP
        EXECUTE format('COMMENT ON COLUMN sluice.%I.%I IS %L', v_column.view, v_column.attname, v_column.meaning);
    END LOOP;
END $$;
COMMENT ON COLUMN sluice.queued.at IS 'Where the row lies in sluice.ready, for a statement that deletes it at once.';
