-- The weekly partitions, for the ledger's new tables.

-- In UTC whatever the session's time zone is: there a week can have an hour more or less. A new partition is made apart
-- and attached, since CREATE TABLE ... PARTITION OF would wait for, and shut out, every transaction that has read or
-- written its parent. Whoever can't get a lock gives up soon: while it waits, others queue behind it.
CREATE OR REPLACE FUNCTION sluice.partitions_ensure(p_weeks_ahead integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET lock_timeout = '300ms'
    SET timezone = 'UTC'
AS $$
DECLARE
    v_parent text;
    v_name text;
    v_week timestamptz;
    v_made integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('sluice.partitions', 0)) THEN
        RETURN 0;
    END IF;
    FOREACH v_parent IN ARRAY ARRAY['jobs', 'done', 'ledger_begun', 'ledger_ended', 'late_results'] LOOP
        FOR v_offset IN 0 .. p_weeks_ahead LOOP
            v_week := (date_trunc('week', clock_timestamp() AT TIME ZONE 'UTC')
                       + make_interval(weeks => v_offset)) AT TIME ZONE 'UTC';
            v_name := v_parent || '_' || to_char(v_week AT TIME ZONE 'UTC', 'YYYYMMDD');
            IF to_regclass('sluice.' || quote_ident(v_name)) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE sluice.%I (LIKE sluice.%I INCLUDING ALL)', v_name, v_parent);
                    EXECUTE format('ALTER TABLE sluice.%2$I ATTACH PARTITION sluice.%1$I FOR VALUES FROM (%3$L) TO (%4$L)',
                        v_name, v_parent, sluice.uuid_floor(v_week),
                        sluice.uuid_floor(v_week + interval '7 days'));
                    v_made := v_made + 1;
                EXCEPTION WHEN check_violation THEN
                    -- Rows of that week are in the default partition already: they stay there.
                    RAISE WARNING 'sluice: the default partition of % holds rows of the week of %', v_parent, v_week;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN v_made;
END $$;
COMMENT ON FUNCTION sluice.partitions_ensure(integer) IS
    'Makes the partitions of this week and of so many weeks ahead; returns how many were made.';

-- Drops what is older than the retention: bodies and results after p_keep_results, the ledger after p_keep_ledger. A
-- week is dropped only when none of its jobs is queued, running or held and none of them ended within the retention.
CREATE OR REPLACE FUNCTION sluice.partitions_drop(p_keep_results interval, p_keep_ledger interval) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET lock_timeout = '300ms'
    SET timezone = 'UTC'
AS $$
DECLARE
    v_week timestamptz;
    v_suffix text;
    v_from uuid;
    v_to uuid;
    v_newest timestamptz;
    v_ends bigint;
    v_dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('sluice.partitions', 0)) THEN
        RETURN 0;
    END IF;
    FOR v_suffix IN
        SELECT DISTINCT substring(c.relname FROM '_(\d{8})$')
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('sluice.jobs'::regclass, 'sluice.done'::regclass, 'sluice.late_results'::regclass,
                              'sluice.ledger_begun'::regclass, 'sluice.ledger_ended'::regclass)
          AND c.relname ~ '_\d{8}$'
        ORDER BY 1
    LOOP
        v_week := to_timestamp(v_suffix, 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC';
        v_from := sluice.uuid_floor(v_week);
        v_to := sluice.uuid_floor(v_week + interval '7 days');
        CONTINUE WHEN v_week + interval '7 days' > clock_timestamp() - least(p_keep_results, p_keep_ledger);
        CONTINUE WHEN EXISTS (SELECT FROM sluice.ready WHERE job_id >= v_from AND job_id < v_to)
                   OR EXISTS (SELECT FROM sluice.running WHERE job_id >= v_from AND job_id < v_to)
                   OR EXISTS (SELECT FROM sluice.held WHERE job_id >= v_from AND job_id < v_to);
        SELECT max(finished_at) INTO v_newest FROM sluice.done WHERE job_id >= v_from AND job_id < v_to;
        IF to_regclass('sluice.jobs_' || v_suffix) IS NOT NULL
           AND v_week + interval '7 days' < clock_timestamp() - p_keep_results
           AND coalesce(v_newest, v_week) < clock_timestamp() - p_keep_results THEN
            -- The ledger outlives results: ends that were written with their job's end move over, before anybody is shut
            -- out. Rows of done never change, so that their number tells whether one came later.
            SELECT count(*) INTO v_ends FROM sluice.done WHERE job_id >= v_from AND job_id < v_to;
            INSERT INTO sluice.ledger_ended
                (job_id, lease_id, generation, lease_no, outcome, ended_at, is_late, status_code, input_tokens,
                 cached_input_tokens, output_tokens, reasoning_tokens, cost_nano_usd, call_duration_ms, first_byte_ms,
                 call_id, upstream, upstream_model, answered_model, request_id, error_class, error_message,
                 incarnation_id, begun_at)
            SELECT e.job_id, e.lease_id, e.generation, e.lease_no, e.outcome, e.ended_at, e.is_late, e.status_code,
                   e.input_tokens, e.cached_input_tokens, e.output_tokens, e.reasoning_tokens,
                   coalesce(e.cost_nano_usd, 0), e.call_duration_ms, e.first_byte_ms, e.call_id, e.upstream,
                   e.upstream_model, e.answered_model, e.request_id, e.error_class, e.error_message,
                   e.incarnation_id, e.begun_at
            FROM sluice.attempts_ended e
            WHERE e.job_id >= v_from AND e.job_id < v_to
            ON CONFLICT DO NOTHING;
            -- DROP locks the parents anyway. Locked first, the question is asked once more when no replay can be under
            -- way: one that was not committed yet would lose its job.
            LOCK TABLE ONLY sluice.jobs, ONLY sluice.done, ONLY sluice.late_results IN ACCESS EXCLUSIVE MODE;
            CONTINUE WHEN EXISTS (SELECT FROM sluice.ready WHERE job_id >= v_from AND job_id < v_to)
                       OR EXISTS (SELECT FROM sluice.running WHERE job_id >= v_from AND job_id < v_to)
                       OR EXISTS (SELECT FROM sluice.held WHERE job_id >= v_from AND job_id < v_to);
            CONTINUE WHEN v_ends <> (SELECT count(*) FROM sluice.done WHERE job_id >= v_from AND job_id < v_to);
            DELETE FROM sluice.idempotency_keys WHERE job_id >= v_from AND job_id < v_to;
            EXECUTE format('DROP TABLE sluice.%I, sluice.%I, sluice.%I',
                'jobs_' || v_suffix, 'done_' || v_suffix, 'late_results_' || v_suffix);
            v_dropped := v_dropped + 3;
            v_newest := NULL;
        END IF;
        IF to_regclass('sluice.jobs_' || v_suffix) IS NULL
           AND to_regclass('sluice.ledger_ended_' || v_suffix) IS NOT NULL
           AND v_week + interval '7 days' < clock_timestamp() - p_keep_ledger
           AND coalesce((SELECT max(ended_at) FROM sluice.ledger_ended
                         WHERE job_id >= v_from AND job_id < v_to), v_week) < clock_timestamp() - p_keep_ledger THEN
            EXECUTE format('DROP TABLE sluice.%I', 'ledger_ended_' || v_suffix);
            v_dropped := v_dropped + 1;
        END IF;
        -- Its weeks are those of the leases, not of the jobs.
        IF to_regclass('sluice.ledger_begun_' || v_suffix) IS NOT NULL
           AND v_week + interval '7 days' < clock_timestamp() - p_keep_ledger THEN
            EXECUTE format('DROP TABLE sluice.%I', 'ledger_begun_' || v_suffix);
            v_dropped := v_dropped + 1;
        END IF;
    END LOOP;
    RETURN v_dropped;
END $$;
COMMENT ON FUNCTION sluice.partitions_drop(interval, interval) IS
    'Drops the weeks that are older than the retention of results and of the ledger; returns how many tables went.';

SELECT sluice.partitions_ensure(2);
