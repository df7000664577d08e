-- Where jobs end, and the ledger of attempts. Insert-only; partitioned by the job's id like sluice.jobs.

CREATE TABLE sluice.done (
    job_id uuid NOT NULL,
    generation integer NOT NULL,
    state sluice.job_state NOT NULL,
    lane_id bigint NOT NULL,
    priority smallint NOT NULL,
    finished_at timestamptz NOT NULL,
    lease_id uuid,
    lease_no integer NOT NULL,
    tries smallint NOT NULL,
    crashes smallint NOT NULL,
    is_late boolean NOT NULL DEFAULT false,
    is_cached boolean NOT NULL DEFAULT false,
    is_truncated boolean NOT NULL DEFAULT false,
    is_assembled boolean NOT NULL DEFAULT false,
    is_retryable boolean NOT NULL DEFAULT false,
    status_code smallint,
    error_class text,
    error_message text,
    body bytea,
    CONSTRAINT done_pkey PRIMARY KEY (job_id, generation),
    CONSTRAINT done_is_an_end CHECK (state IN ('succeeded', 'failed', 'cancelled')),
    CONSTRAINT done_says_why CHECK (state = 'succeeded' OR error_class IS NOT NULL)
) PARTITION BY RANGE (job_id);
CREATE INDEX done_not_succeeded ON sluice.done (state, job_id) WHERE state <> 'succeeded';

COMMENT ON TABLE sluice.done IS 'How each generation of a job ended, with its result. Its key makes a second end impossible.';
COMMENT ON COLUMN sluice.done.job_id IS 'The job.';
COMMENT ON COLUMN sluice.done.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.done.state IS 'succeeded, failed or cancelled.';
COMMENT ON COLUMN sluice.done.lane_id IS 'The lane it came from.';
COMMENT ON COLUMN sluice.done.priority IS '1 to 5.';
COMMENT ON COLUMN sluice.done.finished_at IS 'When, by the database clock.';
COMMENT ON COLUMN sluice.done.lease_id IS 'The attempt whose answer this is; null: ended without one. Usage and cost are on the ledger.';
COMMENT ON COLUMN sluice.done.lease_no IS 'Leases so far.';
COMMENT ON COLUMN sluice.done.tries IS 'Tries spent in this generation.';
COMMENT ON COLUMN sluice.done.crashes IS 'Leases lost in this generation.';
COMMENT ON COLUMN sluice.done.is_late IS 'True: the answer came after its lease had ended; its bytes are in sluice.late_results.';
COMMENT ON COLUMN sluice.done.is_cached IS 'True: answered from the cache, without a call.';
COMMENT ON COLUMN sluice.done.is_truncated IS 'True: the answer was larger than is kept, and body is its beginning.';
COMMENT ON COLUMN sluice.done.is_assembled IS 'True: Sluice chose to stream and put the body together from the chunks.';
COMMENT ON COLUMN sluice.done.is_retryable IS 'True: the same request might succeed when it is replayed.';
COMMENT ON COLUMN sluice.done.status_code IS 'HTTP status of the answer; null: there was none.';
COMMENT ON COLUMN sluice.done.error_class IS 'Class of the error, one of the stable words; null: succeeded.';
COMMENT ON COLUMN sluice.done.error_message IS 'Text of the error, fit for clients.';
COMMENT ON COLUMN sluice.done.body IS 'The provider''s bytes; bytes, since output may hold NUL or broken UTF-8.';

CREATE TABLE sluice.attempts_begun (
    job_id uuid NOT NULL,
    lease_id uuid NOT NULL,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    incarnation_id uuid NOT NULL,
    begun_at timestamptz NOT NULL,
    CONSTRAINT attempts_begun_pkey PRIMARY KEY (job_id, lease_id)
) PARTITION BY RANGE (job_id);

COMMENT ON TABLE sluice.attempts_begun IS 'The ledger, first half: a row for each lease, committed before the first byte of a call can leave. Never updated.';
COMMENT ON COLUMN sluice.attempts_begun.job_id IS 'The job.';
COMMENT ON COLUMN sluice.attempts_begun.lease_id IS 'The lease.';
COMMENT ON COLUMN sluice.attempts_begun.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.attempts_begun.lease_no IS 'Which lease of the job, from 1.';
COMMENT ON COLUMN sluice.attempts_begun.incarnation_id IS 'Who held the lease.';
COMMENT ON COLUMN sluice.attempts_begun.begun_at IS 'When it was leased, by the database clock.';

CREATE TABLE sluice.attempts_ended (
    job_id uuid NOT NULL,
    lease_id uuid NOT NULL,
    generation integer NOT NULL,
    lease_no integer NOT NULL,
    outcome sluice.outcome NOT NULL,
    ended_at timestamptz NOT NULL,
    is_late boolean NOT NULL DEFAULT false,
    status_code smallint,
    input_tokens integer,
    cached_input_tokens integer,
    output_tokens integer,
    reasoning_tokens integer,
    cost_nano_usd bigint NOT NULL DEFAULT 0,
    call_duration_ms integer,
    first_byte_ms integer,
    call_id uuid,
    upstream text,
    upstream_model text,
    answered_model text,
    request_id text,
    error_class text,
    error_message text,
    CONSTRAINT attempts_ended_pkey PRIMARY KEY (job_id, lease_id),
    CONSTRAINT attempts_ended_cost_is_not_negative CHECK (cost_nano_usd >= 0)
) PARTITION BY RANGE (job_id);

COMMENT ON TABLE sluice.attempts_ended IS 'The ledger, second half: how each lease ended. Never updated.';
COMMENT ON COLUMN sluice.attempts_ended.job_id IS 'The job.';
COMMENT ON COLUMN sluice.attempts_ended.lease_id IS 'The lease.';
COMMENT ON COLUMN sluice.attempts_ended.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.attempts_ended.lease_no IS 'Which lease of the job, from 1.';
COMMENT ON COLUMN sluice.attempts_ended.outcome IS 'How it ended.';
COMMENT ON COLUMN sluice.attempts_ended.ended_at IS 'When, by the database clock.';
COMMENT ON COLUMN sluice.attempts_ended.is_late IS 'True: the worker''s word came after the job had been cancelled.';
COMMENT ON COLUMN sluice.attempts_ended.status_code IS 'HTTP status of the answer; null: there was none.';
COMMENT ON COLUMN sluice.attempts_ended.input_tokens IS 'Tokens of the prompt, cached ones included, as the provider says.';
COMMENT ON COLUMN sluice.attempts_ended.cached_input_tokens IS 'Tokens of the prompt that came from the provider''s context cache.';
COMMENT ON COLUMN sluice.attempts_ended.output_tokens IS 'Tokens of the answer, reasoning included.';
COMMENT ON COLUMN sluice.attempts_ended.reasoning_tokens IS 'Tokens of the answer that were reasoning.';
COMMENT ON COLUMN sluice.attempts_ended.cost_nano_usd IS 'What it cost, in billionths of a US dollar.';
COMMENT ON COLUMN sluice.attempts_ended.call_duration_ms IS 'From the first byte sent to the end of the answer, in milliseconds.';
COMMENT ON COLUMN sluice.attempts_ended.first_byte_ms IS 'From the first byte sent to the first byte of the answer, in milliseconds.';
COMMENT ON COLUMN sluice.attempts_ended.call_id IS 'The call, if one was made or tried.';
COMMENT ON COLUMN sluice.attempts_ended.upstream IS 'The upstream that was called.';
COMMENT ON COLUMN sluice.attempts_ended.upstream_model IS 'The model name that was asked for there.';
COMMENT ON COLUMN sluice.attempts_ended.answered_model IS 'The model name that the answer gives.';
COMMENT ON COLUMN sluice.attempts_ended.request_id IS 'The provider''s id of the request.';
COMMENT ON COLUMN sluice.attempts_ended.error_class IS 'Class of the error, one of the stable words.';
COMMENT ON COLUMN sluice.attempts_ended.error_message IS 'Text of the error, fit for clients.';

CREATE TABLE sluice.late_results (
    job_id uuid NOT NULL,
    lease_id uuid NOT NULL,
    generation integer NOT NULL,
    kept_at timestamptz NOT NULL,
    status_code smallint NOT NULL,
    is_truncated boolean NOT NULL,
    is_assembled boolean NOT NULL,
    input_tokens integer,
    cached_input_tokens integer,
    output_tokens integer,
    reasoning_tokens integer,
    cost_nano_usd bigint NOT NULL,
    call_duration_ms integer,
    call_id uuid,
    upstream text,
    upstream_model text,
    answered_model text,
    request_id text,
    body bytea NOT NULL,
    CONSTRAINT late_results_pkey PRIMARY KEY (job_id, lease_id)
) PARTITION BY RANGE (job_id);

COMMENT ON TABLE sluice.late_results IS 'Paid answers that came after their lease had ended: kept, never thrown away.';
COMMENT ON COLUMN sluice.late_results.job_id IS 'The job.';
COMMENT ON COLUMN sluice.late_results.lease_id IS 'The attempt that the answer belongs to.';
COMMENT ON COLUMN sluice.late_results.generation IS 'Which life of the job.';
COMMENT ON COLUMN sluice.late_results.kept_at IS 'When it was stored, by the database clock.';
COMMENT ON COLUMN sluice.late_results.status_code IS 'HTTP status of the answer.';
COMMENT ON COLUMN sluice.late_results.is_truncated IS 'True: the answer was larger than is kept.';
COMMENT ON COLUMN sluice.late_results.is_assembled IS 'True: put together from a stream.';
COMMENT ON COLUMN sluice.late_results.input_tokens IS 'Tokens of the prompt.';
COMMENT ON COLUMN sluice.late_results.cached_input_tokens IS 'Tokens of the prompt from the provider''s cache.';
COMMENT ON COLUMN sluice.late_results.output_tokens IS 'Tokens of the answer.';
COMMENT ON COLUMN sluice.late_results.reasoning_tokens IS 'Tokens of the answer that were reasoning.';
COMMENT ON COLUMN sluice.late_results.cost_nano_usd IS 'What it cost, in billionths of a US dollar.';
COMMENT ON COLUMN sluice.late_results.call_duration_ms IS 'How long the call took, in milliseconds.';
COMMENT ON COLUMN sluice.late_results.call_id IS 'The call.';
COMMENT ON COLUMN sluice.late_results.upstream IS 'The upstream that was called.';
COMMENT ON COLUMN sluice.late_results.upstream_model IS 'The model name that was asked for there.';
COMMENT ON COLUMN sluice.late_results.answered_model IS 'The model name that the answer gives.';
COMMENT ON COLUMN sluice.late_results.request_id IS 'The provider''s id of the request.';
COMMENT ON COLUMN sluice.late_results.body IS 'The provider''s bytes.';

DO $$
BEGIN
    ALTER TABLE sluice.done ALTER COLUMN body SET COMPRESSION lz4;
    ALTER TABLE sluice.late_results ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    RAISE NOTICE 'this server has no lz4: bodies are compressed by pglz';
END $$;
