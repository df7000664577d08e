-- Limits are declared with their floors, where they are not told. What an older program declares has none.

CREATE FUNCTION sluice.limits_declare(
    p_ids bigint[], p_kinds text[], p_windows_s integer[], p_accounts text[], p_models text[], p_tenants text[],
    p_queues text[], p_caps bigint[], p_floors bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
BEGIN
    INSERT INTO sluice.limits AS l (id, kind, window_s, account, model, tenant, queue, cap, floor, changed_at)
    SELECT d.id, d.kind, d.window_s, d.account, d.model, d.tenant, d.queue, d.cap, d.floor, clock_timestamp()
    FROM unnest(p_ids, p_kinds, p_windows_s, p_accounts, p_models, p_tenants, p_queues, p_caps, p_floors)
         AS d(id, kind, window_s, account, model, tenant, queue, cap, floor)
    ORDER BY d.id
    ON CONFLICT (id) DO UPDATE SET cap = excluded.cap, floor = excluded.floor, changed_at = excluded.changed_at
    WHERE l.cap IS DISTINCT FROM excluded.cap OR l.floor IS DISTINCT FROM excluded.floor;
END $$;
COMMENT ON FUNCTION sluice.limits_declare(bigint[], text[], integer[], text[], text[], text[], text[], bigint[], bigint[]) IS
    'Writes down limits with their caps, and their floors where they are not told; what is taken of them stays taken.';

CREATE OR REPLACE FUNCTION sluice.limits_declare(
    p_ids bigint[], p_kinds text[], p_windows_s integer[], p_accounts text[], p_models text[], p_tenants text[],
    p_queues text[], p_caps bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT sluice.limits_declare(p_ids, p_kinds, p_windows_s, p_accounts, p_models, p_tenants, p_queues, p_caps,
                                 array_fill(NULL::bigint, ARRAY[cardinality(p_ids)]));
$$;

CREATE FUNCTION sluice.limits_ensure(
    p_version bigint, p_ids bigint[], p_kinds text[], p_windows_s integer[], p_accounts text[], p_models text[],
    p_tenants text[], p_queues text[], p_caps bigint[], p_floors bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
BEGIN
    -- What another configuration than the newest says counts for nothing. The lock keeps the next one from coming between.
    PERFORM FROM sluice.configurations c WHERE c.version = p_version FOR KEY SHARE;
    IF NOT FOUND OR EXISTS (SELECT FROM sluice.configurations n WHERE n.version > p_version) THEN
        RETURN;
    END IF;
    INSERT INTO sluice.limits (id, kind, window_s, account, model, tenant, queue, cap, floor, changed_at)
    SELECT d.id, d.kind, d.window_s, d.account, d.model, d.tenant, d.queue, d.cap, d.floor, clock_timestamp()
    FROM unnest(p_ids, p_kinds, p_windows_s, p_accounts, p_models, p_tenants, p_queues, p_caps, p_floors)
         AS d(id, kind, window_s, account, model, tenant, queue, cap, floor)
    ORDER BY d.id
    ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION sluice.limits_ensure(bigint, bigint[], text[], integer[], text[], text[], text[], text[], bigint[],
    bigint[]) IS
    'Writes down limits that are not there yet, where the given version is that of the newest configuration.';

CREATE OR REPLACE FUNCTION sluice.limits_ensure(
    p_version bigint, p_ids bigint[], p_kinds text[], p_windows_s integer[], p_accounts text[], p_models text[],
    p_tenants text[], p_queues text[], p_caps bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT sluice.limits_ensure(p_version, p_ids, p_kinds, p_windows_s, p_accounts, p_models, p_tenants, p_queues, p_caps,
                                array_fill(NULL::bigint, ARRAY[cardinality(p_ids)]));
$$;

CREATE FUNCTION sluice.configuration_apply(
    p_seen_version bigint, p_applied_by text, p_document text, p_ids bigint[], p_kinds text[], p_windows_s integer[],
    p_accounts text[], p_models text[], p_tenants text[], p_queues text[], p_caps bigint[], p_floors bigint[])
    RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_version bigint;
BEGIN
    -- Whoever writes down a limit of the last configuration does it before, or not at all.
    PERFORM FROM sluice.configurations c WHERE c.version = p_seen_version FOR UPDATE;
    INSERT INTO sluice.configurations (version, applied_by, document)
    SELECT p_seen_version + 1, p_applied_by, p_document
    WHERE coalesce((SELECT max(c.version) FROM sluice.configurations c), 0) = p_seen_version
    -- Of two that saw the same version, the key lets one through.
    ON CONFLICT DO NOTHING
    RETURNING version INTO v_version;
    IF v_version IS NULL THEN
        RETURN NULL;
    END IF;
    -- In id order, as leases lock them.
    PERFORM FROM sluice.limits l ORDER BY l.id FOR UPDATE;
    PERFORM sluice.limits_declare(p_ids, p_kinds, p_windows_s, p_accounts, p_models, p_tenants, p_queues, p_caps, p_floors);
    -- A queue's limit is declared for each tenant that has been seen with it; one that is not told, of an account without a
    -- model, for each model that has been seen there. What names the limit itself comes first.
    UPDATE sluice.limits l
    SET cap = d.cap, floor = d.floor, changed_at = clock_timestamp()
    FROM sluice.limits k
    LEFT JOIN LATERAL (
        SELECT d.cap, d.floor
        FROM unnest(p_ids, p_accounts, p_models, p_queues, p_caps, p_floors) AS d(id, account, model, queue, cap, floor)
        WHERE d.id = k.id OR (d.queue <> '' AND d.queue = k.queue)
           OR (d.floor IS NOT NULL AND d.model = '' AND k.kind = 'concurrency' AND k.model <> '' AND d.account = k.account)
        ORDER BY (d.id = k.id) DESC LIMIT 1) d ON true
    WHERE l.id = k.id AND (l.cap IS DISTINCT FROM d.cap OR l.floor IS DISTINCT FROM d.floor);
    RETURN v_version;
END $$;
COMMENT ON FUNCTION sluice.configuration_apply(bigint, text, text, bigint[], text[], integer[], text[], text[], text[],
    text[], bigint[], bigint[]) IS
    'Applies a configuration with its limits, if the newest version is still the given one; limits that it does not declare lose their caps. Returns the new version, or null.';

CREATE OR REPLACE FUNCTION sluice.configuration_apply(
    p_seen_version bigint, p_applied_by text, p_document text, p_ids bigint[], p_kinds text[], p_windows_s integer[],
    p_accounts text[], p_models text[], p_tenants text[], p_queues text[], p_caps bigint[]) RETURNS bigint
    LANGUAGE sql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
    SELECT sluice.configuration_apply(p_seen_version, p_applied_by, p_document, p_ids, p_kinds, p_windows_s, p_accounts,
                                      p_models, p_tenants, p_queues, p_caps,
                                      array_fill(NULL::bigint, ARRAY[cardinality(p_ids)]));
$$;

REVOKE ALL ON FUNCTION
    sluice.limits_declare(bigint[], text[], integer[], text[], text[], text[], text[], bigint[], bigint[]),
    sluice.limits_ensure(bigint, bigint[], text[], integer[], text[], text[], text[], text[], bigint[], bigint[]),
    sluice.configuration_apply(bigint, text, text, bigint[], text[], integer[], text[], text[], text[], text[], bigint[],
    bigint[])
    FROM PUBLIC;
