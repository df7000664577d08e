-- A second wall between tenants, behind the rights on tables, which nobody but the owner has: should somebody be granted
-- one of these tables, it shows the rows of its tenant and no others. What has no tenant of its own shows nothing. The
-- owner, as which schedulers, workers and the public functions run, and its members pass by; so it costs them nothing. (To
-- force it on the owner as well was turned down: a setting for each transaction would have to name the tenant, which
-- single statements behind a pooler can't have, and leases are made for all tenants together.)

-- Given up before anybody takes it for a deadlock: others hold these tables one after the other, too.
SET LOCAL lock_timeout = '200ms';

CREATE POLICY of_own_tenant ON sluice.jobs FOR SELECT USING (tenant = sluice.session_tenant());
CREATE POLICY of_own_tenant ON sluice.idempotency_keys FOR SELECT USING (tenant = sluice.session_tenant());
CREATE POLICY of_own_tenant ON sluice.queues FOR SELECT USING (tenant = sluice.session_tenant());
CREATE POLICY of_own_tenant ON sluice.lanes FOR SELECT USING (tenant = sluice.session_tenant());
CREATE POLICY of_own_tenant ON sluice.api_keys FOR SELECT USING (tenant = sluice.session_tenant());

-- A view shows what its reader may see, not what its owner may.
ALTER VIEW sluice.attempts_begun SET (security_invoker = true);
ALTER VIEW sluice.attempts_ended SET (security_invoker = true);
ALTER VIEW sluice.queued SET (security_invoker = true);

-- One lock at a time would be shorter, and a migration is one transaction; whoever can't get one tries again from the
-- beginning.
DO $$
DECLARE
    v_table regclass;
BEGIN
    FOR v_table IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = 'sluice'::regnamespace AND c.relkind IN ('r', 'p')
        ORDER BY c.relname
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', v_table);
    END LOOP;
END $$;

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
                    -- Read through its parent, it is shown by the parent's policy; by itself, to nobody but its owner.
                    EXECUTE format('ALTER TABLE sluice.%I ENABLE ROW LEVEL SECURITY', v_name);
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
