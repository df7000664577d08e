-- The clock for whoever writes rows of sluice.ready by COPY, where no function can read it on the way.

CREATE FUNCTION sluice.submit_clock() RETURNS timestamptz
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The transaction must have its id before the clock is read: whoever then sees the clock past this time and the
    -- id still running knows that an earlier row may yet appear.
    PERFORM pg_current_xact_id();
    RETURN clock_timestamp();
END $$;
COMMENT ON FUNCTION sluice.submit_clock() IS
    'The clock, read after the transaction has its id: the earliest key that a row of this transaction may have.';
REVOKE ALL ON FUNCTION sluice.submit_clock() FROM PUBLIC;
