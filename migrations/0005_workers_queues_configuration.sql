-- Who works, which lines are paused, and what is configured.

CREATE TABLE sluice.incarnations (
    id uuid NOT NULL,
    worker text NOT NULL,
    host text NOT NULL,
    lock_path text,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    dead_at timestamptz,
    is_asleep boolean NOT NULL DEFAULT false,
    is_draining boolean NOT NULL DEFAULT false,
    in_flight integer NOT NULL DEFAULT 0,
    CONSTRAINT incarnations_pkey PRIMARY KEY (id)
) WITH (fillfactor = 50);
CREATE INDEX incarnations_alive ON sluice.incarnations (id) WHERE dead_at IS NULL;

COMMENT ON TABLE sluice.incarnations IS 'One row for each life of a worker process. Its beat keeps all its leases.';
COMMENT ON COLUMN sluice.incarnations.id IS 'The incarnation.';
COMMENT ON COLUMN sluice.incarnations.worker IS 'The worker''s name, for people.';
COMMENT ON COLUMN sluice.incarnations.host IS 'Which host and boot it runs on: only a process with the same value may judge its lock file.';
COMMENT ON COLUMN sluice.incarnations.lock_path IS 'A file that the process holds locked while it lives; null: none.';
COMMENT ON COLUMN sluice.incarnations.pid IS 'Its process id, for people.';
COMMENT ON COLUMN sluice.incarnations.version IS 'The version of its program.';
COMMENT ON COLUMN sluice.incarnations.started_at IS 'When it started, by the database clock.';
COMMENT ON COLUMN sluice.incarnations.beat_at IS 'Its last beat, by the database clock.';
COMMENT ON COLUMN sluice.incarnations.dead_at IS 'When it ended or was found dead; null: alive. The dead stay dead.';
COMMENT ON COLUMN sluice.incarnations.is_asleep IS 'True: it found nothing to do and wants to hear of new work.';
COMMENT ON COLUMN sluice.incarnations.is_draining IS 'True: it takes no more work.';
COMMENT ON COLUMN sluice.incarnations.in_flight IS 'Attempts under way at its last beat.';

CREATE TABLE sluice.queues (
    tenant text NOT NULL,
    name text NOT NULL,
    paused_at timestamptz,
    CONSTRAINT queues_pkey PRIMARY KEY (tenant, name)
);

COMMENT ON TABLE sluice.queues IS 'Lines that were ever paused. A line that has no row is not paused.';
COMMENT ON COLUMN sluice.queues.tenant IS 'Whose line.';
COMMENT ON COLUMN sluice.queues.name IS 'The line''s name.';
COMMENT ON COLUMN sluice.queues.paused_at IS 'Since when it is paused; null: it is not.';

CREATE TABLE sluice.lanes (
    id bigint NOT NULL,
    tenant text NOT NULL,
    queue text NOT NULL,
    model text NOT NULL,
    CONSTRAINT lanes_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE sluice.lanes IS 'What lane ids stand for. Filled by whoever first reads the board, never by a submit.';
COMMENT ON COLUMN sluice.lanes.id IS 'sluice.lane_id(tenant, queue, model).';
COMMENT ON COLUMN sluice.lanes.tenant IS 'Whose lane.';
COMMENT ON COLUMN sluice.lanes.queue IS 'Its queue.';
COMMENT ON COLUMN sluice.lanes.model IS 'Its model.';

CREATE TABLE sluice.configurations (
    version bigint NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL,
    document text NOT NULL,
    CONSTRAINT configurations_pkey PRIMARY KEY (version)
);

COMMENT ON TABLE sluice.configurations IS 'Every configuration that was applied; the one with the highest version counts.';
COMMENT ON COLUMN sluice.configurations.version IS 'Rises with each apply.';
COMMENT ON COLUMN sluice.configurations.applied_at IS 'When, by the database clock.';
COMMENT ON COLUMN sluice.configurations.applied_by IS 'Who or what applied it.';
COMMENT ON COLUMN sluice.configurations.document IS 'The text of sluice.yaml; secrets in it are references only.';
