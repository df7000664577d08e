-- The ledger in fewer rows. The begun half has one row for each lease statement, which lists its attempts; the end of
-- the attempt that ends its job is written with that end, in sluice.done, and all others in sluice.ledger_ended. What
-- reads attempts by job reads the views sluice.attempts_begun and sluice.attempts_ended, as before.

DROP TRIGGER rows_never_change ON sluice.attempts_begun;
DROP TRIGGER rows_never_change ON sluice.attempts_ended;

CREATE TABLE sluice.ledger_begun (
    id uuid NOT NULL,
    incarnation_id uuid NOT NULL,
    begun_at timestamptz NOT NULL,
    job_ids uuid[] NOT NULL,
    lease_ids uuid[] NOT NULL,
    lease_nos integer[] NOT NULL,
    CONSTRAINT ledger_begun_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);

COMMENT ON TABLE sluice.ledger_begun IS 'The ledger, first half: a row for each lease statement, committed before the first byte of its calls can leave. Never updated.';
COMMENT ON COLUMN sluice.ledger_begun.id IS 'A UUIDv7 of the time of the lease.';
COMMENT ON COLUMN sluice.ledger_begun.incarnation_id IS 'Who leased.';
COMMENT ON COLUMN sluice.ledger_begun.begun_at IS 'When, by the database clock.';
COMMENT ON COLUMN sluice.ledger_begun.job_ids IS 'The jobs.';
COMMENT ON COLUMN sluice.ledger_begun.lease_ids IS 'The lease of each.';
COMMENT ON COLUMN sluice.ledger_begun.lease_nos IS 'Which lease of its job each is, from 1.';

-- A row lists so many attempts at most that it fits a page: no compression to try, no second table to go to.
ALTER TABLE sluice.ledger_begun
    ALTER COLUMN job_ids SET STORAGE PLAIN,
    ALTER COLUMN lease_ids SET STORAGE PLAIN,
    ALTER COLUMN lease_nos SET STORAGE PLAIN;
CREATE TABLE sluice.ledger_begun_default PARTITION OF sluice.ledger_begun DEFAULT;

ALTER TABLE sluice.attempts_ended RENAME TO ledger_ended;
ALTER TABLE sluice.ledger_ended RENAME CONSTRAINT attempts_ended_pkey TO ledger_ended_pkey;
ALTER TABLE sluice.ledger_ended
    RENAME CONSTRAINT attempts_ended_cost_is_not_negative TO ledger_ended_cost_is_not_negative;
ALTER TABLE sluice.ledger_ended ADD COLUMN incarnation_id uuid, ADD COLUMN begun_at timestamptz;
COMMENT ON TABLE sluice.ledger_ended IS 'The ledger, second half: how each lease ended that did not end its job as well. Never updated.';
COMMENT ON COLUMN sluice.ledger_ended.incarnation_id IS 'Who held the lease; null: not known any more.';
COMMENT ON COLUMN sluice.ledger_ended.begun_at IS 'When it was leased, by the database clock.';
DO $$
DECLARE
    v_part text;
BEGIN
    FOR v_part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'sluice.ledger_ended'::regclass
    LOOP
        EXECUTE format('ALTER TABLE sluice.%I RENAME TO %I', v_part, replace(v_part, 'attempts_ended', 'ledger_ended'));
    END LOOP;
END $$;

UPDATE sluice.ledger_ended e SET incarnation_id = b.incarnation_id, begun_at = b.begun_at
FROM sluice.attempts_begun b WHERE b.job_id = e.job_id AND b.lease_id = e.lease_id;
INSERT INTO sluice.ledger_begun (id, incarnation_id, begun_at, job_ids, lease_ids, lease_nos)
SELECT sluice.uuid_v7(), b.incarnation_id, b.begun_at, ARRAY[b.job_id], ARRAY[b.lease_id], ARRAY[b.lease_no]
FROM sluice.attempts_begun b;
DROP TABLE sluice.attempts_begun;

ALTER TABLE sluice.cancelled_leases ADD COLUMN begun_at timestamptz;
COMMENT ON COLUMN sluice.cancelled_leases.begun_at IS 'When it was leased, by the database clock.';

ALTER TABLE sluice.done
    ADD COLUMN incarnation_id uuid,
    ADD COLUMN begun_at timestamptz,
    ADD COLUMN input_tokens integer,
    ADD COLUMN cached_input_tokens integer,
    ADD COLUMN output_tokens integer,
    ADD COLUMN reasoning_tokens integer,
    ADD COLUMN cost_nano_usd bigint,
    ADD COLUMN call_duration_ms integer,
    ADD COLUMN first_byte_ms integer,
    ADD COLUMN call_id uuid,
    ADD COLUMN upstream text,
    ADD COLUMN upstream_model text,
    ADD COLUMN answered_model text,
    ADD COLUMN request_id text,
    ADD CONSTRAINT done_cost_is_not_negative CHECK (cost_nano_usd >= 0);
COMMENT ON TABLE sluice.done IS 'How each generation of a job ended, with its result and the end of the attempt that ended it. Its key makes a second end impossible.';
COMMENT ON COLUMN sluice.done.lease_id IS 'The attempt whose answer this is; null: ended without one.';
COMMENT ON COLUMN sluice.done.incarnation_id IS 'Who held the lease.';
COMMENT ON COLUMN sluice.done.begun_at IS 'When it was leased; null: this row is no attempt''s end (cancelled, deadline, late answer).';
COMMENT ON COLUMN sluice.done.input_tokens IS 'Tokens of the prompt, cached ones included, as the provider says.';
COMMENT ON COLUMN sluice.done.cached_input_tokens IS 'Tokens of the prompt that came from the provider''s context cache.';
COMMENT ON COLUMN sluice.done.output_tokens IS 'Tokens of the answer, reasoning included.';
COMMENT ON COLUMN sluice.done.reasoning_tokens IS 'Tokens of the answer that were reasoning.';
COMMENT ON COLUMN sluice.done.cost_nano_usd IS 'What the attempt cost, in billionths of a US dollar.';
COMMENT ON COLUMN sluice.done.call_duration_ms IS 'From the first byte sent to the end of the answer, in milliseconds.';
COMMENT ON COLUMN sluice.done.first_byte_ms IS 'From the first byte sent to the first byte of the answer, in milliseconds.';
COMMENT ON COLUMN sluice.done.call_id IS 'The call, if one was made or tried.';
COMMENT ON COLUMN sluice.done.upstream IS 'The upstream that was called.';
COMMENT ON COLUMN sluice.done.upstream_model IS 'The model name that was asked for there.';
COMMENT ON COLUMN sluice.done.answered_model IS 'The model name that the answer gives.';
COMMENT ON COLUMN sluice.done.request_id IS 'The provider''s id of the request.';

CREATE VIEW sluice.attempts_ended AS
    SELECT e.job_id, e.lease_id, e.generation, e.lease_no, e.outcome, e.ended_at, e.is_late, e.status_code,
           e.input_tokens, e.cached_input_tokens, e.output_tokens, e.reasoning_tokens, e.cost_nano_usd,
           e.call_duration_ms, e.first_byte_ms, e.call_id, e.upstream, e.upstream_model, e.answered_model,
           e.request_id, e.error_class, e.error_message, e.incarnation_id, e.begun_at
    FROM sluice.ledger_ended e
    UNION ALL
    SELECT d.job_id, d.lease_id, d.generation, d.lease_no,
           CASE WHEN d.is_cached THEN 'cached' WHEN d.state = 'succeeded' THEN 'succeeded' ELSE 'failed' END::sluice.outcome,
           d.finished_at, false, d.status_code, d.input_tokens, d.cached_input_tokens, d.output_tokens,
           d.reasoning_tokens, d.cost_nano_usd, d.call_duration_ms, d.first_byte_ms, d.call_id, d.upstream,
           d.upstream_model, d.answered_model, d.request_id, d.error_class, d.error_message, d.incarnation_id,
           d.begun_at
    FROM sluice.done d WHERE d.begun_at IS NOT NULL;
COMMENT ON VIEW sluice.attempts_ended IS 'How each lease ended: the ones that ended their job (sluice.done) and all others (sluice.ledger_ended).';

CREATE VIEW sluice.attempts_begun AS
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
COMMENT ON VIEW sluice.attempts_begun IS 'Each lease that was ever given, found by its job: under way, or ended. The record that was written before its call is in sluice.ledger_begun.';

CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.ledger_begun
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
CREATE TRIGGER rows_never_change BEFORE UPDATE ON sluice.ledger_ended
    FOR EACH STATEMENT EXECUTE FUNCTION sluice.refuse_change();
