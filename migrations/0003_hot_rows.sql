-- The narrow rows that a live job moves between: ready -> running -> (done, below), or held. A row is inserted and
-- deleted, hardly ever updated: dead rows gather behind the scan of the lease, not on it.

CREATE TABLE sluice.ready (
    lane_id bigint NOT NULL,
    priority smallint NOT NULL,
    line smallint NOT NULL,
    key timestamptz NOT NULL,
    job_id uuid NOT NULL,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    tries smallint NOT NULL,
    crashes smallint NOT NULL,
    refusals smallint NOT NULL,
    hold_on_unknown boolean NOT NULL,
    deadline timestamptz,
    CONSTRAINT ready_pkey PRIMARY KEY (lane_id, priority, line, key, job_id),
    CONSTRAINT ready_job_stands_once UNIQUE (job_id),
    CONSTRAINT ready_line_is_known CHECK (line IN (0, 1))
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.2,
        autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX ready_deadline ON sluice.ready (deadline) WHERE deadline IS NOT NULL;

COMMENT ON TABLE sluice.ready IS 'Queued jobs. The key begins with the lane, so that work that is blocked never stands before work that can run.';
COMMENT ON COLUMN sluice.ready.lane_id IS 'The lane: a hash of tenant, queue and model.';
COMMENT ON COLUMN sluice.ready.priority IS '1 to 5; 5 is leased first.';
COMMENT ON COLUMN sluice.ready.line IS '0: jobs that come back (retry, hand-back, expiry, replay, release) or were scheduled, walked first. 1: fresh jobs.';
COMMENT ON COLUMN sluice.ready.key IS 'Not before this time, and the order within the line. Never earlier than the clock read after the inserting transaction had its id.';
COMMENT ON COLUMN sluice.ready.job_id IS 'The job.';
COMMENT ON COLUMN sluice.ready.generation IS 'Which life of the job, from 1; a replay begins the next.';
COMMENT ON COLUMN sluice.ready.lease_no IS 'Leases so far, over all generations.';
COMMENT ON COLUMN sluice.ready.tries IS 'Tries spent in this generation.';
COMMENT ON COLUMN sluice.ready.crashes IS 'Leases lost in this generation.';
COMMENT ON COLUMN sluice.ready.refusals IS 'Attempts of this generation that ended without spending a try (401, 402, 429, 503, 529, not sent).';
COMMENT ON COLUMN sluice.ready.hold_on_unknown IS 'As in sluice.jobs; here so that expiry reads no wide row.';
COMMENT ON COLUMN sluice.ready.deadline IS 'As in sluice.jobs; here so that the deadline loop reads no wide row.';

CREATE TABLE sluice.running (
    job_id uuid NOT NULL,
    lease_id uuid NOT NULL,
    incarnation_id uuid NOT NULL,
    lane_id bigint NOT NULL,
    priority smallint NOT NULL,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    tries smallint NOT NULL,
    crashes smallint NOT NULL,
    refusals smallint NOT NULL,
    hold_on_unknown boolean NOT NULL,
    deadline timestamptz,
    leased_at timestamptz NOT NULL,
    CONSTRAINT running_pkey PRIMARY KEY (job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX running_incarnation_id ON sluice.running (incarnation_id);

COMMENT ON TABLE sluice.running IS 'Leases. While a row is here, a settle under its lease_id counts.';
COMMENT ON COLUMN sluice.running.job_id IS 'The job.';
COMMENT ON COLUMN sluice.running.lease_id IS 'The fence: random, compared for equality by every write about this run.';
COMMENT ON COLUMN sluice.running.incarnation_id IS 'The worker incarnation that holds the lease; it beats for all its leases together.';
COMMENT ON COLUMN sluice.running.lane_id IS 'The lane it came from.';
COMMENT ON COLUMN sluice.running.priority IS '1 to 5.';
COMMENT ON COLUMN sluice.running.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.running.lease_no IS 'Which lease of the job this is, from 1.';
COMMENT ON COLUMN sluice.running.tries IS 'Tries spent before this lease, in this generation.';
COMMENT ON COLUMN sluice.running.crashes IS 'Leases lost before this one, in this generation.';
COMMENT ON COLUMN sluice.running.refusals IS 'Attempts before this one that spent no try, in this generation.';
COMMENT ON COLUMN sluice.running.hold_on_unknown IS 'As in sluice.jobs.';
COMMENT ON COLUMN sluice.running.deadline IS 'As in sluice.jobs.';
COMMENT ON COLUMN sluice.running.leased_at IS 'When it was leased, by the database clock.';

CREATE TABLE sluice.held (
    job_id uuid NOT NULL,
    lane_id bigint NOT NULL,
    priority smallint NOT NULL,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    tries smallint NOT NULL,
    crashes smallint NOT NULL,
    refusals smallint NOT NULL,
    hold_on_unknown boolean NOT NULL,
    deadline timestamptz,
    reason sluice.hold_reason NOT NULL,
    held_at timestamptz NOT NULL,
    CONSTRAINT held_pkey PRIMARY KEY (job_id)
);
CREATE INDEX held_deadline ON sluice.held (deadline) WHERE deadline IS NOT NULL;

COMMENT ON TABLE sluice.held IS 'Jobs that wait for a person: release, cancel, or their deadline.';
COMMENT ON COLUMN sluice.held.job_id IS 'The job.';
COMMENT ON COLUMN sluice.held.lane_id IS 'The lane it came from.';
COMMENT ON COLUMN sluice.held.priority IS '1 to 5.';
COMMENT ON COLUMN sluice.held.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.held.lease_no IS 'Leases so far.';
COMMENT ON COLUMN sluice.held.tries IS 'Tries spent in this generation.';
COMMENT ON COLUMN sluice.held.crashes IS 'Leases lost in this generation.';
COMMENT ON COLUMN sluice.held.refusals IS 'Attempts of this generation that spent no try.';
COMMENT ON COLUMN sluice.held.hold_on_unknown IS 'As in sluice.jobs.';
COMMENT ON COLUMN sluice.held.deadline IS 'As in sluice.jobs.';
COMMENT ON COLUMN sluice.held.reason IS 'Why it is held.';
COMMENT ON COLUMN sluice.held.held_at IS 'Since when, by the database clock.';

CREATE TABLE sluice.cancelled_leases (
    lease_id uuid NOT NULL,
    job_id uuid NOT NULL,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    incarnation_id uuid NOT NULL,
    lane_id bigint NOT NULL,
    cancelled_at timestamptz NOT NULL,
    CONSTRAINT cancelled_leases_pkey PRIMARY KEY (lease_id)
);
CREATE INDEX cancelled_leases_incarnation_id ON sluice.cancelled_leases (incarnation_id);

COMMENT ON TABLE sluice.cancelled_leases IS 'Leases whose job was cancelled and whose worker has not let go of the call yet: the slot is still taken.';
COMMENT ON COLUMN sluice.cancelled_leases.lease_id IS 'The lease.';
COMMENT ON COLUMN sluice.cancelled_leases.job_id IS 'The job, which has ended as cancelled.';
COMMENT ON COLUMN sluice.cancelled_leases.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.cancelled_leases.lease_no IS 'Which lease of the job.';
COMMENT ON COLUMN sluice.cancelled_leases.incarnation_id IS 'Who has to let go.';
COMMENT ON COLUMN sluice.cancelled_leases.lane_id IS 'The lane it came from.';
COMMENT ON COLUMN sluice.cancelled_leases.cancelled_at IS 'When the job was cancelled, by the database clock.';
