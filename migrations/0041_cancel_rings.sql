-- A cancel from SQL rings as one over REST does: the worker lets go of the call at once instead of with its next beat, and
-- who waits for the job hears that it has ended. Within a transaction all rings of a kind are one.

CREATE OR REPLACE FUNCTION sluice.cancel(id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_answer text := sluice.cancel_job('default', id);
BEGIN
    IF v_answer = 'unknown' THEN
        RAISE EXCEPTION 'there is no job %', id USING ERRCODE = 'no_data_found';
    ELSIF v_answer = 'busy' THEN
        -- It has no word of its own: whoever calls has a way to try a transaction again.
        RAISE EXCEPTION 'job % moved at each of ten looks; try again', id USING ERRCODE = 'serialization_failure';
    ELSIF v_answer = 'cancelled' THEN
        PERFORM pg_notify('sluice_ended', '');
        -- A lease is named there only where the job was running.
        IF (SELECT d.lease_id IS NOT NULL FROM sluice.done d
            WHERE d.job_id = cancel.id ORDER BY d.generation DESC LIMIT 1) THEN
            PERFORM pg_notify('sluice_cancelled', '');
        END IF;
    END IF;
    RETURN CASE v_answer WHEN 'already_cancelled' THEN 'cancelled' ELSE v_answer END;
END $$;
COMMENT ON FUNCTION sluice.cancel(uuid) IS
    'Cancels a job; returns cancelled, or succeeded or failed where it had ended before. Raises 40001 where the job moved at each of several looks.';
