-- Limits over all workers: what is declared, how much of it is taken, and what of that came back.
--
-- A lease takes from limits under the locks of their rows in sluice.limits, in id order, and from nothing else that
-- somebody may wait for. Whoever ends an attempt locks no limit: it inserts what comes back, and the next lease counts it
-- in. So no two statements can deadlock over limits, and nobody who settles waits for whoever leases.
--
-- None of these rows is ever updated at a rate: an old snapshot would keep each version, and every look would walk over
-- them. What is taken is a row with a number that rises, found from its highest end; what came back stands in the order of
-- its transactions, above a floor that the same row holds.

CREATE TABLE sluice.limits (
    id bigint NOT NULL,
    kind text NOT NULL,
    window_s integer NOT NULL,
    account text NOT NULL,
    model text NOT NULL,
    tenant text NOT NULL,
    queue text NOT NULL,
    cap bigint,
    changed_at timestamptz NOT NULL,
    CONSTRAINT limits_pkey PRIMARY KEY (id),
    CONSTRAINT limits_kind_is_known CHECK (kind IN ('concurrency', 'requests', 'tokens')),
    CONSTRAINT limits_kind_is_in_id CHECK (
        id & 3 = CASE kind WHEN 'concurrency' THEN 0 WHEN 'requests' THEN 1 ELSE 2 END),
    CONSTRAINT limits_window_fits_kind CHECK ((kind = 'concurrency') = (window_s = 0) AND window_s >= 0),
    CONSTRAINT limits_cap_is_not_negative CHECK (cap >= 0)
);

COMMENT ON TABLE sluice.limits IS 'What may be used, over all workers: of an account and model, or of a tenant''s queue. Its rows are also the locks under which leases take. A row is never deleted, since leases may hold of it.';
COMMENT ON COLUMN sluice.limits.id IS 'A hash of what it is about; the lowest two bits say the kind: 0 concurrency, 1 requests, 2 tokens.';
COMMENT ON COLUMN sluice.limits.kind IS 'concurrency: calls under way. requests, tokens: so many within the window.';
COMMENT ON COLUMN sluice.limits.window_s IS 'Seconds of the window; 0 for concurrency.';
COMMENT ON COLUMN sluice.limits.account IS 'What the provider counts it against; empty: it is a queue''s.';
COMMENT ON COLUMN sluice.limits.model IS 'Of which model, by its name there; empty: of all together.';
COMMENT ON COLUMN sluice.limits.tenant IS 'Whose queue; empty: it is an account''s.';
COMMENT ON COLUMN sluice.limits.queue IS 'Which queue; empty: it is an account''s.';
COMMENT ON COLUMN sluice.limits.cap IS 'So much at most; null: it is not declared any more, and nothing is taken.';
COMMENT ON COLUMN sluice.limits.changed_at IS 'When it was last declared, by the database clock.';

CREATE TABLE sluice.limit_states (
    limit_id bigint NOT NULL,
    version bigint NOT NULL,
    used bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    counted_below xid8 NOT NULL,
    fallen_before timestamptz NOT NULL,
    tokens_per_byte real NOT NULL,
    output_tokens real NOT NULL,
    CONSTRAINT limit_states_pkey PRIMARY KEY (limit_id, version)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

COMMENT ON TABLE sluice.limit_states IS 'How much of each limit is taken: one row for each, replaced by each lease that takes. It is read from the highest version, so that what lies dead is never walked.';
COMMENT ON COLUMN sluice.limit_states.limit_id IS 'The limit.';
COMMENT ON COLUMN sluice.limit_states.version IS 'Rises with each change.';
COMMENT ON COLUMN sluice.limit_states.used IS 'Spent and reserved: slots, or the sum of the slices.';
COMMENT ON COLUMN sluice.limit_states.changed_at IS 'When, by the database clock.';
COMMENT ON COLUMN sluice.limit_states.counted_below IS 'All of sluice.limit_changes by transactions below this one has been counted in.';
COMMENT ON COLUMN sluice.limit_states.fallen_before IS 'All slices before this time have fallen out.';
COMMENT ON COLUMN sluice.limit_states.tokens_per_byte IS 'Tokens of a prompt for each byte of its body, lately.';
COMMENT ON COLUMN sluice.limit_states.output_tokens IS 'Tokens of an answer, lately.';

CREATE TABLE sluice.limit_slices (
    limit_id bigint NOT NULL,
    at timestamptz NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT limit_slices_pkey PRIMARY KEY (limit_id, at)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 2000);

COMMENT ON TABLE sluice.limit_slices IS 'What was taken of a window, by slices of time: they fall out of the sum when they are older than the window.';
COMMENT ON COLUMN sluice.limit_slices.limit_id IS 'The limit.';
COMMENT ON COLUMN sluice.limit_slices.at IS 'When the slice begins, by the database clock.';
COMMENT ON COLUMN sluice.limit_slices.amount IS 'Requests or tokens of the calls that were leased within it.';

CREATE TABLE sluice.limit_changes (
    limit_id bigint NOT NULL,
    xid xid8 NOT NULL,
    leased_at timestamptz,
    amount bigint NOT NULL,
    answers integer,
    body_bytes bigint,
    input_tokens bigint,
    output_tokens bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX limit_changes_by_transaction ON sluice.limit_changes (limit_id, xid);

COMMENT ON TABLE sluice.limit_changes IS 'What ends of attempts changed of limits, until the next lease counts it in. Only ever inserted and deleted.';
COMMENT ON COLUMN sluice.limit_changes.limit_id IS 'The limit.';
COMMENT ON COLUMN sluice.limit_changes.xid IS 'The transaction that inserted it.';
COMMENT ON COLUMN sluice.limit_changes.leased_at IS 'When it had been taken: names the slice; null for slots.';
COMMENT ON COLUMN sluice.limit_changes.amount IS 'What is added to the use: less than nothing where it comes back.';
COMMENT ON COLUMN sluice.limit_changes.answers IS 'Answers of which the usage is known.';
COMMENT ON COLUMN sluice.limit_changes.body_bytes IS 'Bytes of the bodies of those answers'' jobs.';
COMMENT ON COLUMN sluice.limit_changes.input_tokens IS 'Tokens of their prompts.';
COMMENT ON COLUMN sluice.limit_changes.output_tokens IS 'Tokens of those answers.';

-- What a lease holds. Null where its lane has no limit; a row takes no more bytes then.
ALTER TABLE sluice.running ADD COLUMN limit_ids bigint[], ADD COLUMN reserved_tokens bigint, ADD COLUMN body_bytes integer;
COMMENT ON COLUMN sluice.running.limit_ids IS 'The limits of which it holds a slot, a request or tokens; null: none.';
COMMENT ON COLUMN sluice.running.reserved_tokens IS 'So many tokens of each of them that counts tokens.';
COMMENT ON COLUMN sluice.running.body_bytes IS 'The size of its body, where that was asked for.';
ALTER TABLE sluice.cancelled_leases ADD COLUMN limit_ids bigint[], ADD COLUMN reserved_tokens bigint;
COMMENT ON COLUMN sluice.cancelled_leases.limit_ids IS 'As in sluice.running.';
COMMENT ON COLUMN sluice.cancelled_leases.reserved_tokens IS 'As in sluice.running.';

CREATE FUNCTION sluice.limit_slice(p_window_s integer) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN make_interval(secs => least(0.25, p_window_s / 20.0));
COMMENT ON FUNCTION sluice.limit_slice(integer) IS 'How long a slice of a window is.';

CREATE FUNCTION sluice.limit_horizon(p_window_s integer) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- The window, the slice itself (whatever was taken in it was taken before its end), and the longest time from a
    -- lease to the arrival of its call.
    RETURN make_interval(secs => p_window_s + least(0.25, p_window_s / 20.0) + 0.5);
COMMENT ON FUNCTION sluice.limit_horizon(integer) IS
    'How old the beginning of a slice is when it falls out: the window, a slice, and the margin from lease to arrival.';

CREATE FUNCTION sluice.asked_tokens(p_body bytea, p_key bytea) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- The bytes of a key in quotes and a colon after it: within a string of JSON the quotes would be escaped.
    RETURN substring(
        encode(substr(p_body, nullif(position(p_key IN p_body), 0) + octet_length(p_key), 24), 'escape')
        FROM '^[ \t\r\n]*:[ \t\r\n]*([0-9]{1,9})(?:[^0-9]|$)')::bigint;
COMMENT ON FUNCTION sluice.asked_tokens(bytea, bytea) IS 'The number that stands in a JSON body under a key (in its quotes), without taking the body apart; null where there is none.';

REVOKE ALL ON FUNCTION sluice.limit_slice(integer), sluice.limit_horizon(integer), sluice.asked_tokens(bytea, bytea)
    FROM PUBLIC;
