use super::{MINIMAL, errors};

/// Asserts the error of one upstream with `fields`.
fn upstream_error(fields: &str, wanted: &str) {
    let text = format!("upstreams:\n- {{ name: a, provider: openai, {fields} }}\n");
    assert_eq!(errors(&text), wanted, "{fields}");
}

/// Asserts the error of what stands after one good upstream.
fn error(more: &str, wanted: &str) {
    assert_eq!(errors(&format!("{MINIMAL}{more}")), wanted, "{more}");
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    upstream_error(
        "base_urll: 'http://a'",
        "upstreams[0] (line 2, column 3): base_url is missing\n\
         upstreams[0].base_urll (line 2, column 32): unknown key; did you mean \"base_url\"?",
    );
    error("route: []\n", "route (line 3, column 1): unknown key; did you mean \"routes\"?");
    error(
        "breaker: { colour: red }\n",
        "breaker.colour (line 3, column 12): unknown key; known are failure_threshold, reset_timeout",
    );
}

#[test]
fn a_bad_url_is_told_without_repeating_it() {
    for (url, problem) in [
        ("deepseek.com", "is not a URL such as https://api.deepseek.com: relative URL without a base"),
        ("ftp://a.example", "must begin with https:// or http://"),
        ("http://", "is not a URL such as https://api.deepseek.com: empty host"),
        ("http://a.example?x=1", "must not hold a query or a fragment: paths are appended to it"),
        (
            "https://me:hunter2@a.example",
            "must not hold a user or a password: the configuration is stored in the database; use auth",
        ),
    ] {
        let wanted = format!("upstreams[0].base_url (line 2, column 42): {problem}");
        upstream_error(&format!("base_url: '{url}'"), &wanted);
    }
}

#[test]
fn numbers_out_of_range_are_told_with_the_range() {
    for (given, told) in
        [("0", "0"), ("-1", "-1"), (".nan", "NaN"), (".inf", "inf"), ("1.5", "1.5"), ("10000001", "10000001")]
    {
        let wanted = format!(
            "limits[0].concurrency (line 4, column 30): {told} is not a whole number from 1 to 10000000"
        );
        error(&format!("limits:\n- {{ account: a, concurrency: {given} }}\n"), &wanted);
    }
    upstream_error(
        "base_url: 'http://a', weight: lots",
        "upstreams[0].weight (line 2, column 62): must be a whole number, not text",
    );
}

#[test]
fn durations_need_a_unit_and_a_sane_size() {
    for (given, problem) in [
        ("30", "30 needs a unit, such as 500ms, 2s, 5m or 1h"),
        ("fast", "\"fast\" is not a duration such as 500ms, 2s, 5m or 1h"),
        ("-2s", "\"-2s\" is not a duration such as 500ms, 2s, 5m or 1h"),
        ("0s", "0s is not between 1ms and 5m"),
        ("99999d", "99999d is not between 1ms and 5m"),
    ] {
        let wanted = format!("upstreams[0].connect_timeout (line 2, column 71): {problem}");
        upstream_error(&format!("base_url: 'http://a', connect_timeout: {given}"), &wanted);
    }
}

#[test]
fn names_used_twice_and_names_that_lead_nowhere_are_told() {
    error(
        "routes:\n- { model: m, targets: [{ upstream: b }] }\n- { model: m, targets: [{ upstream: a }, { upstream: a }] }\n",
        "routes[0].targets[0].upstream (line 4, column 3): there is no upstream \"b\"; did you mean \"a\"?\n\
         routes[1] (line 5, column 3): a route for \"m\" is there twice\n\
         routes[1].targets[1] (line 5, column 3): upstream \"a\" is there twice",
    );
    error(
        "queues: [{ name: q }, { name: q }]\nlimits: [{ account: nobodys, concurrency: 1 }]\n",
        "queues[1] (line 3, column 23): queue \"q\" is there twice\n\
         limits[0].account (line 4, column 10): there is no account \"nobodys\"",
    );
    error(
        "- { name: a, provider: openai, base_url: 'http://b' }\n",
        "upstreams[1] (line 3, column 3): upstream \"a\" is there twice",
    );
}

#[test]
fn a_literal_key_is_refused_and_not_repeated() {
    let refused = "must be a reference such as ${NAME} or file:/path, not the secret itself: the configuration is \
        stored in the database, and secrets must not be";
    for (given, problem) in [
        ("sk-0123456789abcdef", refused),
        ("1234567890", refused),
        ("'$DEEPSEEK_API_KEY'", refused),
        ("'${sk-0123}'", "the name within ${…} may hold letters, digits and '_' only"),
        ("'file:relative'", "the path of a secret's file must be absolute"),
    ] {
        let wanted = format!("upstreams[0].api_key (line 2, column 63): {problem}");
        upstream_error(&format!("base_url: 'http://a', api_key: {given}"), &wanted);
    }
}

#[test]
fn words_are_told_with_the_nearest_or_all() {
    error(
        "queues: [{ name: q, retry: { strategy: ful_jitter } }]\n",
        "queues[0].retry.strategy (line 3, column 40): \"ful_jitter\" is not known; did you mean \"full_jitter\"?",
    );
    upstream_error(
        "base_url: 'http://a', auth: { kind: magic }",
        "upstreams[0].auth.kind (line 2, column 68): \"magic\" is not known; known are bearer, header, jwt, oauth2, hmac",
    );
    upstream_error(
        "base_url: 'http://a', auth: { api_key: '${K}' }",
        "upstreams[0].auth (line 2, column 60): kind is missing; known are bearer, header, jwt, oauth2, hmac",
    );
}

#[test]
fn a_policy_that_contradicts_itself_is_told() {
    error(
        "queues: [{ name: q, retry: { max_attempts: 101, base_delay: 2m, min_delay: 90s } }]\n",
        "queues[0].retry (line 3, column 28): base_delay (2m) is above max_delay (30s)\n\
         queues[0].retry (line 3, column 28): min_delay (90s) is above max_delay (30s)\n\
         queues[0].retry.max_attempts (line 3, column 44): 101 is not a whole number from 1 to 100",
    );
}

#[test]
fn wrong_shapes_are_told() {
    error("routes: { model: m }\n", "routes (line 3, column 9): must be a list, not a mapping");
    error("queues: [fast]\n", "queues[0] (line 3, column 10): must be a mapping, not text");
    error(
        "routes: [{ model: 4, targets: [] }]\n",
        "routes[0].model (line 3, column 19): must be text, not a number; put it in quotes\n\
         routes[0].targets (line 3, column 31): needs at least one target",
    );
    error(
        "limits: [{ account: a }]\n",
        "limits[0] (line 3, column 10): limits nothing; give concurrency, adaptive, requests_per_minute, \
         tokens_per_minute, …",
    );
    error(
        "limits: [{ account: a, concurrency: 3, adaptive: { floor: 9, ceiling: 3 } }]\n",
        "limits[0] (line 3, column 10): concurrency is told or found out (adaptive), not both\n\
         limits[0].adaptive (line 3, column 50): floor (9) is above ceiling (3)",
    );
}

#[test]
fn an_empty_or_broken_text_is_told() {
    assert_eq!(errors(""), "the configuration is empty; declare at least one upstream");
    assert_eq!(errors("# nothing\n"), "the configuration is empty; declare at least one upstream");
    assert_eq!(errors("upstreams: []\n"), "line 1, column 1: upstreams: at least one is needed");
    assert_eq!(errors("- a\n"), "line 1, column 1: must be a mapping, not a list");
    assert_eq!(errors("upstreams: [\n"), "line 1, column 12: not valid YAML: unclosed bracket '['");
    assert_eq!(
        errors(&format!("{MINIMAL}queues: []\nqueues: []\n")),
        "line 4, column 1: not valid YAML: duplicate mapping key: queues not allowed here"
    );
    assert_eq!(
        errors(&" ".repeat(2 * 1024 * 1024)),
        "the text has 2097152 bytes; at most 1048576 are allowed"
    );
}

#[test]
fn who_may_come_in_is_said_in_full_or_not_at_all() {
    let issuer = |more: &str| {
        let head = "issuer: i, audience: a, algorithms: [RS256], jwks: 'file:/k'";
        errors(&format!("{MINIMAL}access: {{ jwt: [ {{ {head}, {more} }} ] }}\n"))
    };
    assert!(issuer("tenant: t").contains("give either scopes or scope_claim"));
    assert!(
        issuer("tenant: t, tenant_claim: t, scopes: [read]").contains("give either tenant or tenant_claim")
    );
    assert!(issuer("tenant: t, scopes: [raed]").contains("did you mean \"read\"?"));
    assert!(issuer("tenant: t, scopes: []").contains("holds no scope"));
    assert!(issuer("tenant: 'two words', scopes: [read]").contains("access.jwt[0].tenant"));
    let signed = |more: &str| errors(&format!("{MINIMAL}access: {{ signed: [ {{ {more} }} ] }}\n"));
    let literal = signed("id: b, secret: hunter2, tenant: t, scopes: [read]");
    assert!(literal.contains("must be a reference") && !literal.contains("hunter2"), "{literal}");
    assert!(signed("id: 'a b', secret: '${S}', tenant: t, scopes: [read]").contains("access.signed[0].id"));
}
