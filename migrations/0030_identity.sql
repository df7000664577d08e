-- Which database this is, so that what belongs to it and lies elsewhere (answers in a worker's spool) never ends up in
-- another one. It moves with a dump and with a standby.

CREATE TABLE sluice.identity (
    id uuid NOT NULL,
    made_at timestamptz NOT NULL,
    is_only boolean NOT NULL DEFAULT true,
    CONSTRAINT identity_pkey PRIMARY KEY (is_only),
    CONSTRAINT identity_is_one CHECK (is_only)
);

COMMENT ON TABLE sluice.identity IS 'Which database this is: exactly one row, which never changes.';
COMMENT ON COLUMN sluice.identity.id IS 'Random; the name of this database in the spools of workers.';
COMMENT ON COLUMN sluice.identity.made_at IS 'When the name was given, by the database clock.';
COMMENT ON COLUMN sluice.identity.is_only IS 'Always true: there is one row.';

INSERT INTO sluice.identity (id, made_at) VALUES (gen_random_uuid(), clock_timestamp());
