-- Leases keep to what is believed of a limit that is not told.

CREATE OR REPLACE FUNCTION sluice.limits_open(p_limits bigint[])
    RETURNS TABLE (id bigint, window_s integer, cap bigint, version bigint, used bigint, is_changed boolean,
                   counted_below xid8, fallen_before timestamptz, tokens_per_byte real, output_tokens real,
                   opened_at timestamptz)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET plan_cache_mode = force_generic_plan
    SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
BEGIN
    -- In id order, and nothing is waited for after these: no two statements can wait for each other.
    PERFORM FROM sluice.limits l WHERE l.id = ANY (p_limits) ORDER BY l.id FOR UPDATE;
    -- Under the locks, so that what was taken stands in the order of the clock.
    v_now := clock_timestamp();
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT l.id, l.window_s,
               -- What is not told is what is believed, within its bounds; the least of it until somebody believes.
               CASE WHEN l.floor IS NULL OR l.cap IS NULL THEN l.cap
                    ELSE greatest(l.floor, least(l.cap, coalesce(b.cap, l.floor))) END AS cap,
               coalesce(s.version, 0) AS version, coalesce(s.used, 0) AS used,
               -- One that lies ahead is another server's: this one was restored from a dump.
               CASE WHEN s.counted_below < pg_snapshot_xmax(pg_current_snapshot()) THEN s.counted_below
                    ELSE '0' END AS counted_below,
               -- Where the clock was set back, what was taken meanwhile lies before what has fallen.
               least(s.fallen_before, v_now - sluice.limit_horizon(l.window_s)) AS falling_from,
               v_now - sluice.limit_horizon(l.window_s) AS falling_to, sluice.limit_slice(l.window_s) AS slice,
               coalesce(s.tokens_per_byte, 0.25) AS tokens_per_byte, coalesce(s.output_tokens, 512) AS output_tokens
        FROM sluice.limits l
        LEFT JOIN LATERAL (
            SELECT * FROM sluice.limit_states s WHERE s.limit_id = l.id ORDER BY s.version DESC LIMIT 1) s ON true
        LEFT JOIN LATERAL (
            SELECT b.cap FROM sluice.limit_beliefs b WHERE l.floor IS NOT NULL AND b.limit_id = l.id
            ORDER BY b.version DESC LIMIT 1) b ON true
        WHERE l.id = ANY (p_limits)
    ), changes AS (
        DELETE FROM sluice.limit_changes c USING known k
        WHERE c.limit_id = k.id AND c.xid >= k.counted_below
        RETURNING c.limit_id, CASE WHEN c.leased_at IS NOT NULL THEN date_bin(k.slice, c.leased_at, 'epoch') END AS at,
            k.falling_to, c.amount, c.answers, c.body_bytes, c.input_tokens, c.output_tokens
    ), corrected AS (
        -- What has fallen out, or does so now, is not corrected any more: it goes with the amount that it has.
        UPDATE sluice.limit_slices s SET amount = s.amount + c.amount
        FROM (SELECT c.limit_id, c.at, sum(c.amount)::bigint AS amount FROM changes c
              WHERE c.at >= c.falling_to GROUP BY c.limit_id, c.at) c
        WHERE s.limit_id = c.limit_id AND s.at = c.at
        RETURNING c.limit_id, c.amount
    ), fallen AS (
        DELETE FROM sluice.limit_slices s USING known k
        WHERE k.window_s > 0 AND s.limit_id = k.id AND s.at >= k.falling_from AND s.at < k.falling_to
        RETURNING s.limit_id, -s.amount AS amount
    ), summed AS (
        SELECT a.limit_id, sum(a.amount) AS amount, sum(a.answers) AS answers, sum(a.body_bytes) AS body_bytes,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens
        FROM (SELECT c.limit_id, CASE WHEN c.at IS NULL THEN c.amount ELSE 0 END AS amount, c.answers, c.body_bytes,
                     c.input_tokens, c.output_tokens FROM changes c
              UNION ALL SELECT c.limit_id, c.amount, NULL, NULL, NULL, NULL FROM corrected c
              UNION ALL SELECT f.limit_id, f.amount, NULL, NULL, NULL, NULL FROM fallen f) a
        GROUP BY a.limit_id
    )
    SELECT k.id, k.window_s, k.cap, k.version, (k.used + coalesce(s.amount, 0))::bigint, s.limit_id IS NOT NULL,
           pg_snapshot_xmin(pg_current_snapshot()), k.falling_to,
           -- Of the answers that came, each counts for a twentieth.
           (CASE WHEN s.body_bytes > 0
                 THEN k.tokens_per_byte + (s.input_tokens::float8 / s.body_bytes::float8 - k.tokens_per_byte)
                      * (1 - power(0.95::float8, s.answers::float8))
                 ELSE k.tokens_per_byte END)::real,
           (CASE WHEN s.answers > 0
                 THEN k.output_tokens + (s.output_tokens::float8 / s.answers::float8 - k.output_tokens)
                      * (1 - power(0.95::float8, s.answers::float8))
                 ELSE k.output_tokens END)::real,
           v_now
    FROM known k LEFT JOIN summed s ON s.limit_id = k.id
    ORDER BY k.id;
END $$;
