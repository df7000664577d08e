-- A body from SQL may be nested as deeply as one over REST, whose document of 128 levels has the body one level down.
-- Programs that read it later have such limits too.

CREATE FUNCTION sluice.is_nested_deeper(p_json text, p_limit integer) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_left text;
BEGIN
    -- Most bodies have too few brackets for it.
    IF length(p_json) - length(translate(p_json, '[{', '')) <= p_limit THEN
        RETURN false;
    END IF;
    -- Without escaped quotes, every other part between quotes is outside of strings; of those, the brackets are kept,
    -- all as one kind. A regular expression over the whole would be far slower.
    SELECT string_agg(translate(p.part, E'{} \t\r\n0123456789+-.,:Eaeflnrstu', '[]'), '' ORDER BY p.ordinal) INTO v_left
    FROM unnest(string_to_array(replace(replace(p_json, E'\\\\', ''), E'\\"', ''), '"'))
         WITH ORDINALITY AS p(part, ordinal)
    WHERE p.ordinal % 2 = 1;
    -- Each round takes the innermost level away.
    FOR v_level IN 1 .. p_limit LOOP
        EXIT WHEN v_left = '';
        v_left := replace(v_left, '[]', '');
    END LOOP;
    RETURN v_left <> '';
END $$;
COMMENT ON FUNCTION sluice.is_nested_deeper(text, integer) IS
    'Whether arrays and objects of a JSON text are nested deeper than a limit.';
REVOKE ALL ON FUNCTION sluice.is_nested_deeper(text, integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION sluice.check_submit(
    p_body json, p_path text, p_queue text, p_model text, p_priority integer, p_key text, p_run_at timestamptz,
    p_deadline timestamptz, p_max_attempts integer, p_tags jsonb, p_on_unknown text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, sluice, pg_temp
AS $$
DECLARE
    v_tag record;
BEGIN
    IF p_body IS NULL OR json_typeof(p_body) <> 'object' THEN
        PERFORM sluice.refuse('body', 'must be a JSON object');
    ELSIF octet_length(p_body::text) > 8 * 1024 * 1024 THEN
        PERFORM sluice.refuse('body', format('has %s bytes; at most 8388608 are allowed', octet_length(p_body::text)));
    ELSIF sluice.is_nested_deeper(p_body::text, 127) THEN
        PERFORM sluice.refuse('body', 'is nested deeper than 127 levels');
    ELSIF p_path IS NULL OR p_path !~ '^(/[A-Za-z0-9_.:-]+)+$' OR p_path LIKE '%..%' OR length(p_path) > 256 THEN
        PERFORM sluice.refuse('path', 'must start with / and hold letters, digits, /, -, _, . and : only');
    ELSIF p_queue IS NULL OR p_queue !~ '^[[:alnum:]_.:-]+$' OR octet_length(p_queue) > 128 THEN
        PERFORM sluice.refuse('queue', 'must have 1 to 128 letters, digits, -, _, . or :');
    ELSIF p_queue LIKE 'run:%' THEN
        PERFORM sluice.refuse('queue', 'must not begin with run: (those belong to sluice run)');
    ELSIF p_model IS NULL OR p_model = '' OR octet_length(p_model) > 256 OR p_model ~ '[[:cntrl:]]' THEN
        PERFORM sluice.refuse('body.model', 'must be a string of 1 to 256 bytes: which model the call asks for');
    ELSIF p_priority IS NULL OR p_priority NOT BETWEEN 1 AND 5 THEN
        PERFORM sluice.refuse('priority', 'must be 1 to 5 (5 is most urgent)');
    ELSIF p_key = '' OR octet_length(p_key) > 255 OR p_key ~ '[[:cntrl:]]' THEN
        PERFORM sluice.refuse('idempotency_key', 'must have 1 to 255 bytes without control characters');
    ELSIF NOT isfinite(p_run_at) OR p_run_at > clock_timestamp() + interval '10 years' THEN
        PERFORM sluice.refuse('run_at', 'must be within ten years from now');
    ELSIF NOT isfinite(p_deadline) OR p_deadline <= clock_timestamp()
          OR p_deadline > clock_timestamp() + interval '20 years' THEN
        PERFORM sluice.refuse('deadline', 'must be in the future and within twenty years');
    ELSIF p_deadline <= p_run_at THEN
        PERFORM sluice.refuse('deadline', 'must be later than run_at');
    ELSIF p_max_attempts NOT BETWEEN 1 AND 100 THEN
        PERFORM sluice.refuse('max_attempts', 'must be 1 to 100');
    ELSIF p_on_unknown IS NULL OR p_on_unknown NOT IN ('retry', 'hold') THEN
        PERFORM sluice.refuse('on_unknown', 'must be retry or hold');
    ELSIF p_tags IS NULL OR jsonb_typeof(p_tags) <> 'object' THEN
        PERFORM sluice.refuse('tags', 'must be an object of strings');
    END IF;
    IF (SELECT count(*) FROM jsonb_object_keys(p_tags)) > 64 THEN
        PERFORM sluice.refuse('tags', 'may have at most 64 pairs');
    END IF;
    FOR v_tag IN SELECT key, value, jsonb_typeof(value) AS kind FROM jsonb_each(p_tags) LOOP
        IF v_tag.kind <> 'string' OR v_tag.key = '' OR octet_length(v_tag.key) > 64
           OR v_tag.key ~ '[[:cntrl:]]' OR octet_length(v_tag.value #>> '{}') > 512 THEN
            PERFORM sluice.refuse('tags', format(
                'the value of %s must be a string of at most 512 bytes, and its key have 1 to 64', quote_literal(v_tag.key)));
        END IF;
    END LOOP;
END $$;
