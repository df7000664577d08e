use super::MINIMAL;
use crate::{Configuration, difference};

fn lines(old: &str, new: &str) -> Vec<String> {
    let parse = |text| Configuration::parse(text).unwrap();
    difference(&parse(old), &parse(new)).iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_differs_when_only_the_order_or_the_writing_does() {
    let one = format!("{MINIMAL}queues: [{{ name: p }}, {{ name: q }}]\n");
    let other = format!("queues:\n- name: q\n  weight: 1\n- name: p\n{MINIMAL}breaker:\n");
    assert_eq!(lines(&one, &other), [""; 0]);
}

#[test]
fn changes_are_told_by_name_and_secrets_as_references() {
    let old = "upstreams:\n\
        - { name: a, provider: openai, base_url: 'http://a', api_key: '${OLD}' }\n\
        - { name: b, provider: openai, base_url: 'http://b' }\n\
        queues: [{ name: q, retry: { max_attempts: 3 } }]\n";
    let new = "upstreams:\n\
        - { name: a, provider: openai, base_url: 'https://a', api_key: 'file:/run/new' }\n\
        routes: [{ model: m, targets: [{ upstream: a, model: n }] }]\n\
        limits: [{ account: a, concurrency: 5 }]\n\
        queues: [{ name: q, retry: { max_attempts: 5 } }]\n";
    assert_eq!(
        lines(old, new),
        [
            "~ upstreams.a.base_url: http://a → https://a",
            "~ upstreams.a.auth.api_key: ${OLD} → file:/run/new",
            "- upstreams.b: { provider: openai, base_url: http://b, account: b, priority: 1, weight: 1, \
             connect_timeout: 2s, max_idle_connections: 64 }",
            "+ routes.m: { targets: [{ upstream: a, model: n }] }",
            "+ limits.a of all models: { concurrency: 5 }",
            "~ queues.q.retry.max_attempts: 3 → 5",
        ]
    );
}
