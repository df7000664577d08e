use super::{FULL, MINIMAL};
use crate::Configuration;

fn refused(text: &str) -> Vec<String> {
    Configuration::parse(text).unwrap().in_effect_errors().iter().map(ToString::to_string).collect()
}

#[test]
fn what_has_no_effect_yet_is_refused_in_those_words() {
    assert_eq!(
        refused(FULL),
        [
            "upstreams[2].auth: auth of kind jwt has no effect yet; use api_key",
            "routes[0].targets[1]: a second target has no effect yet; keep one target a route",
            "limits[0]: rate limits have no effect yet; remove them (the provider's own 429 and Retry-After are obeyed)",
            "queues[0].max_running: a cap on running jobs has no effect yet; remove it (`worker --concurrency` bounds \
             each worker)",
        ]
    );
    let more = "- { name: b, provider: openai, base_url: 'http://b', weight: 2 }\n\
        queues: [{ name: q, weight: 3 }]\nbreaker: { failure_threshold: 6 }\n";
    assert_eq!(
        refused(&format!("{MINIMAL}{more}")),
        [
            "upstreams[1].weight: a weight other than 1 has no effect yet; remove it",
            "upstreams[1]: without routes, all calls go to the first upstream by priority, and a further one has no \
             effect yet; remove it, or add routes",
            "queues[0].weight: a weight other than 1 has no effect yet; remove it",
            "breaker: the circuit breaker has no effect yet; remove it",
        ]
    );
}

#[test]
fn defaults_written_out_have_effect() {
    let more = "breaker: { failure_threshold: 5, reset_timeout: 1m }\nqueues: [{ name: q, weight: 1 }]\n";
    assert_eq!(refused(&format!("{MINIMAL}{more}")), [""; 0]);
    assert!(Configuration::parse_in_effect(FULL).is_err());
}
