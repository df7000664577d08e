-- Calls of OpenAI-compatible clients that went away before their answer. Those clients repeat a request by themselves, and
-- without a key: what is remembered here lets the repetition join the job instead of paying for another.

CREATE TABLE sluice.left_calls (
    job_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    left_at timestamptz NOT NULL,
    CONSTRAINT left_calls_pkey PRIMARY KEY (job_id)
);
CREATE INDEX left_calls_fingerprint ON sluice.left_calls (fingerprint, job_id);
CREATE INDEX left_calls_left_at ON sluice.left_calls (left_at);

COMMENT ON TABLE sluice.left_calls IS
    'Jobs whose waiting client went away, for the few minutes in which it may ask again. A row is taken by who joins the job.';
COMMENT ON COLUMN sluice.left_calls.job_id IS 'The job.';
COMMENT ON COLUMN sluice.left_calls.fingerprint IS
    'SHA-256 over tenant, credential, path and body: what a repetition must match.';
COMMENT ON COLUMN sluice.left_calls.left_at IS 'When its client went away, by the database clock.';

REVOKE ALL ON sluice.left_calls FROM PUBLIC;
