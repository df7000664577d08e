-- Late words are taken many in one statement: an outage that lasted longer than a lease leaves thousands of them.

CREATE FUNCTION sluice.settle_late_many(
    p_database uuid, p_incarnations uuid[], p_jobs uuid[], p_leases uuid[], p_generations integer[],
    p_lease_nos integer[], p_outcomes text[], p_status_codes smallint[], p_bodies bytea[], p_is_truncated boolean[],
    p_is_assembled boolean[], p_input_tokens integer[], p_cached_tokens integer[], p_output_tokens integer[],
    p_reasoning_tokens integer[], p_costs bigint[], p_call_ids uuid[], p_upstreams text[], p_upstream_models text[],
    p_answered_models text[], p_request_ids text[], p_durations_ms integer[])
    RETURNS TABLE (ordinal integer, verdict text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
    -- One job that somebody holds locked must not hold up the others: the caller tries halves.
    SET lock_timeout = '2s'
AS $$
DECLARE
    v_word record;
BEGIN
    -- A late word finds nothing that it belongs to in another database, and would be written all the same.
    IF p_database IS NOT NULL AND NOT EXISTS (SELECT FROM sluice.identity d WHERE d.id = p_database) THEN
        RAISE EXCEPTION 'this is not database %', p_database USING ERRCODE = 'SL002';
    END IF;
    -- In id order, so that two statements that touch the same jobs wait for each other one way round only.
    FOR v_word IN
        SELECT i.*
        FROM unnest(p_incarnations, p_jobs, p_leases, p_generations, p_lease_nos, p_outcomes, p_status_codes, p_bodies,
                    p_is_truncated, p_is_assembled, p_input_tokens, p_cached_tokens, p_output_tokens,
                    p_reasoning_tokens, p_costs, p_call_ids, p_upstreams, p_upstream_models, p_answered_models,
                    p_request_ids, p_durations_ms) WITH ORDINALITY
             AS i(incarnation, job, lease, generation, lease_no, outcome, status_code, body, is_truncated,
                  is_assembled, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost, call_id, upstream,
                  upstream_model, answered_model, request_id, duration_ms, place)
        ORDER BY i.job, i.lease_no
    LOOP
        ordinal := v_word.place;
        verdict := sluice.settle_late(
            v_word.incarnation, v_word.job, v_word.lease, v_word.generation, v_word.lease_no, v_word.outcome,
            v_word.status_code, v_word.body, v_word.is_truncated, v_word.is_assembled, v_word.input_tokens,
            v_word.cached_tokens, v_word.output_tokens, v_word.reasoning_tokens, v_word.cost, v_word.call_id,
            v_word.upstream, v_word.upstream_model, v_word.answered_model, v_word.request_id, v_word.duration_ms);
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION sluice.settle_late_many(uuid, uuid[], uuid[], uuid[], integer[], integer[], text[], smallint[],
    bytea[], boolean[], boolean[], integer[], integer[], integer[], integer[], bigint[], uuid[], text[], text[], text[],
    text[], integer[]) IS
    'Takes the words of workers whose leases had ended, each as sluice.settle_late does: its place among them and its verdict. Raises SL002 in another database than the named one.';
REVOKE ALL ON FUNCTION sluice.settle_late_many(uuid, uuid[], uuid[], uuid[], integer[], integer[], text[], smallint[],
    bytea[], boolean[], boolean[], integer[], integer[], integer[], integer[], bigint[], uuid[], text[], text[], text[],
    text[], integer[]) FROM PUBLIC;
