-- The schema, the words that columns use, and ids.

CREATE SCHEMA IF NOT EXISTS sluice;
COMMENT ON SCHEMA sluice IS
    'Sluice: a durable queue for LLM API calls. Its public functions (submit, submit_many, job, cancel, replay, replay_failed) are the contract; its tables are not.';
REVOKE ALL ON SCHEMA sluice FROM PUBLIC;

CREATE TYPE sluice.job_state AS ENUM ('queued', 'running', 'held', 'succeeded', 'failed', 'cancelled');
COMMENT ON TYPE sluice.job_state IS
    'Where a job stands. queued: waits for a lease, perhaps until a time. running: a worker holds its lease. held: waits for a person. succeeded, failed, cancelled: ended; only a replay leads out.';

CREATE TYPE sluice.outcome AS ENUM
    ('succeeded', 'cached', 'retry', 'failed', 'not_sent', 'unknown', 'cancelled', 'lost');
COMMENT ON TYPE sluice.outcome IS
    'How an attempt ended. succeeded: the answer is the result. cached: answered without a call. retry: an error that may pass. failed: the job''s own error. not_sent: no byte left. unknown: sent, the answer is not known. cancelled: let go because the job was cancelled. lost: the lease ended without a word of its worker.';

CREATE TYPE sluice.hold_reason AS ENUM ('unknown_outcome', 'poison');
COMMENT ON TYPE sluice.hold_reason IS
    'Why a job is held. unknown_outcome: a call may have been made, its answer is not known, and the job says hold. poison: every process that worked on it crashed.';

-- The lowest UUIDv7 of a moment: the bound between two partitions.
CREATE FUNCTION sluice.uuid_floor(p_at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (lpad(to_hex(floor(least(greatest(extract(epoch FROM p_at) * 1000, 0), 281474976710655))::bigint), 12, '0')
            || '00000000000000000000')::uuid
$$;
COMMENT ON FUNCTION sluice.uuid_floor(timestamptz) IS
    'The lowest UUIDv7 of a moment (RFC 9562, section 5.7); of a moment that its 48 bits can not hold, of the nearest that they can.';

-- A UUIDv7: 48 bits of milliseconds, the version, 12 bits of the fraction of the millisecond (RFC 9562, section 6.2,
-- method 3, so that ids made one after the other stand in that order), and the random rest of a v4.
CREATE FUNCTION sluice.uuid_v7() RETURNS uuid
    LANGUAGE plpgsql VOLATILE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_micros bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    v_fraction integer := ((v_micros % 1000) * 4096 / 1000)::integer;
BEGIN
    RETURN (lpad(to_hex(v_micros / 1000), 12, '0') || '7' || lpad(to_hex(v_fraction), 3, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 17))::uuid;
END $$;
COMMENT ON FUNCTION sluice.uuid_v7() IS 'A new job id: UUIDv7 (RFC 9562, section 5.7) of this moment.';

-- A lane's id is a hash of what it stands for and no row of a directory: a long transaction that is the first to
-- submit to a lane would otherwise make every other submit to that lane wait for its commit.
CREATE FUNCTION sluice.lane_id(p_tenant text, p_queue text, p_model text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ('x' || substr(md5(p_tenant || E'\x1f' || p_queue || E'\x1f' || p_model), 1, 16))::bit(64)::bigint
$$;
COMMENT ON FUNCTION sluice.lane_id(text, text, text) IS 'The id of the lane of a tenant, queue and model.';
