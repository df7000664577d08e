-- What is fixed about a job when it is submitted, with the body. Written once, never updated, dropped by partition.

CREATE TABLE sluice.jobs (
    id uuid NOT NULL,
    tenant text NOT NULL,
    queue text NOT NULL,
    model text NOT NULL,
    path text NOT NULL,
    lane_id bigint NOT NULL,
    priority smallint NOT NULL,
    created_at timestamptz NOT NULL,
    deadline timestamptz,
    max_attempts smallint,
    hold_on_unknown boolean NOT NULL,
    idempotency_key text,
    tags jsonb NOT NULL,
    traceparent text,
    body bytea NOT NULL,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_priority_is_1_to_5 CHECK (priority BETWEEN 1 AND 5),
    CONSTRAINT jobs_max_attempts_is_positive CHECK (max_attempts >= 1)
) PARTITION BY RANGE (id);

COMMENT ON TABLE sluice.jobs IS 'What is fixed about each job when it is submitted. Partitioned by id, which is by time.';
COMMENT ON COLUMN sluice.jobs.id IS 'The job''s id, a UUIDv7, never used twice.';
COMMENT ON COLUMN sluice.jobs.tenant IS 'Who owns it.';
COMMENT ON COLUMN sluice.jobs.queue IS 'The line it stands in.';
COMMENT ON COLUMN sluice.jobs.model IS 'The model that it asks for; a route leads from it to an upstream.';
COMMENT ON COLUMN sluice.jobs.path IS 'The API path that it calls, such as /v1/chat/completions.';
COMMENT ON COLUMN sluice.jobs.lane_id IS 'sluice.lane_id(tenant, queue, model).';
COMMENT ON COLUMN sluice.jobs.priority IS '1 to 5; 5 is leased first.';
COMMENT ON COLUMN sluice.jobs.created_at IS 'When it was submitted, by the database clock.';
COMMENT ON COLUMN sluice.jobs.deadline IS 'Not after this time; null: no deadline.';
COMMENT ON COLUMN sluice.jobs.max_attempts IS 'Tries at most; null: as the queue''s policy says.';
COMMENT ON COLUMN sluice.jobs.hold_on_unknown IS 'True: a call whose answer is not known is never repeated without a person''s word.';
COMMENT ON COLUMN sluice.jobs.idempotency_key IS 'The key that it was submitted under; unique for the tenant while the job is kept.';
COMMENT ON COLUMN sluice.jobs.tags IS 'The user''s flat map of strings.';
COMMENT ON COLUMN sluice.jobs.traceparent IS 'W3C traceparent of the submit, for the trace that goes on in the worker.';
COMMENT ON COLUMN sluice.jobs.body IS 'The request''s JSON, byte for byte as submitted; bytes, since jsonb would change it.';

CREATE TABLE sluice.idempotency_keys (
    tenant text NOT NULL,
    key text NOT NULL,
    job_id uuid NOT NULL,
    content_sha256 bytea NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_job_id ON sluice.idempotency_keys (job_id);

COMMENT ON TABLE sluice.idempotency_keys IS 'One job per tenant and key. A row lives exactly as long as its job.';
COMMENT ON COLUMN sluice.idempotency_keys.tenant IS 'Whose key.';
COMMENT ON COLUMN sluice.idempotency_keys.key IS 'The key.';
COMMENT ON COLUMN sluice.idempotency_keys.job_id IS 'The job that was submitted under it first.';
COMMENT ON COLUMN sluice.idempotency_keys.content_sha256 IS 'SHA-256 over path, model and the SHA-256 of the body: what a repeated submit must match.';

-- Bodies are compressed by lz4 where the server was built with it.
DO $$
BEGIN
    ALTER TABLE sluice.jobs ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    RAISE NOTICE 'this server has no lz4: bodies are compressed by pglz';
END $$;
