-- Upstreams and accounts that are paused: by a person, or by a worker that met a wrong key or an empty account.

CREATE TABLE sluice.pauses (
    kind text NOT NULL,
    name text NOT NULL,
    paused_at timestamptz NOT NULL,
    reason text NOT NULL,
    CONSTRAINT pauses_pkey PRIMARY KEY (kind, name),
    CONSTRAINT pauses_kind_is_known CHECK (kind IN ('upstream', 'account'))
);

COMMENT ON TABLE sluice.pauses IS 'Upstreams and accounts that are not called until somebody resumes them.';
COMMENT ON COLUMN sluice.pauses.kind IS 'upstream: one base URL with its credential. account: what the provider counts limits and money against.';
COMMENT ON COLUMN sluice.pauses.name IS 'Its name in the configuration.';
COMMENT ON COLUMN sluice.pauses.paused_at IS 'Since when, by the database clock.';
COMMENT ON COLUMN sluice.pauses.reason IS 'Why: operator, or the error class that a worker met.';
