-- A lease's columns from wide to narrow: seven bytes of a row, and of the log of each lease, were padding. The table is
-- made anew, since columns can't be moved; it holds what is leased at this moment and no more.

LOCK TABLE sluice.running IN ACCESS EXCLUSIVE MODE;
ALTER TABLE sluice.running RENAME TO running_before;
ALTER TABLE sluice.running_before RENAME CONSTRAINT running_pkey TO running_before_pkey;
ALTER INDEX sluice.running_incarnation_id RENAME TO running_before_incarnation_id;

CREATE TABLE sluice.running (
    job_id uuid NOT NULL,
    lease_id uuid NOT NULL,
    incarnation_id uuid NOT NULL,
    lane_id bigint NOT NULL,
    leased_at timestamptz NOT NULL,
    deadline timestamptz,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    priority smallint NOT NULL,
    tries smallint NOT NULL,
    crashes smallint NOT NULL,
    refusals smallint NOT NULL,
    hold_on_unknown boolean NOT NULL,
    CONSTRAINT running_pkey PRIMARY KEY (job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX running_incarnation_id ON sluice.running (incarnation_id);

COMMENT ON TABLE sluice.running IS 'Leases. While a row is here, a settle under its lease_id counts.';
COMMENT ON COLUMN sluice.running.job_id IS 'The job.';
COMMENT ON COLUMN sluice.running.lease_id IS 'The fence: random, compared for equality by every write about this run.';
COMMENT ON COLUMN sluice.running.incarnation_id IS 'The worker incarnation that holds the lease; it beats for all its leases together.';
COMMENT ON COLUMN sluice.running.lane_id IS 'The lane it came from.';
COMMENT ON COLUMN sluice.running.leased_at IS 'When it was leased, by the database clock.';
COMMENT ON COLUMN sluice.running.deadline IS 'As in sluice.jobs.';
COMMENT ON COLUMN sluice.running.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.running.lease_no IS 'Which lease of the job this is, from 1.';
COMMENT ON COLUMN sluice.running.priority IS '1 to 5.';
COMMENT ON COLUMN sluice.running.tries IS 'Tries spent before this lease, in this generation.';
COMMENT ON COLUMN sluice.running.crashes IS 'Leases lost before this one, in this generation.';
COMMENT ON COLUMN sluice.running.refusals IS 'Attempts before this one that spent no try, in this generation.';
COMMENT ON COLUMN sluice.running.hold_on_unknown IS 'As in sluice.jobs.';

INSERT INTO sluice.running
    (job_id, lease_id, incarnation_id, lane_id, leased_at, deadline, generation, lease_no, priority, tries, crashes,
     refusals, hold_on_unknown)
SELECT job_id, lease_id, incarnation_id, lane_id, leased_at, deadline, generation, lease_no, priority, tries, crashes,
       refusals, hold_on_unknown
FROM sluice.running_before;

CREATE TRIGGER job_stands_in_one_place AFTER INSERT ON sluice.running
    FOR EACH ROW WHEN (NEW.lease_no > 1 OR NEW.generation > 1)
    EXECUTE FUNCTION sluice.refuse_second_place_of_row('running');

CREATE OR REPLACE VIEW sluice.attempts_begun AS
    SELECT r.job_id, r.lease_id, r.generation, r.lease_no, r.incarnation_id, r.leased_at AS begun_at
    FROM sluice.running r
    UNION ALL
    SELECT c.job_id, c.lease_id, c.generation, c.lease_no, c.incarnation_id, coalesce(c.begun_at, c.cancelled_at)
    FROM sluice.cancelled_leases c
    UNION ALL
    SELECT e.job_id, e.lease_id, e.generation, e.lease_no, e.incarnation_id, coalesce(e.begun_at, e.ended_at)
    FROM sluice.ledger_ended e
    UNION ALL
    SELECT d.job_id, d.lease_id, d.generation, d.lease_no, d.incarnation_id, d.begun_at
    FROM sluice.done d WHERE d.begun_at IS NOT NULL;

DROP TABLE sluice.running_before;
