use std::time::Duration;

use sluice_policy::backoff::{RetryPolicy, RetryStrategy};

use super::{FULL, MINIMAL};
use crate::{Auth, Breaker, Configuration, Provider, SecretRef};

#[test]
fn the_full_example_is_read_as_it_is_written() {
    let config = Configuration::parse(FULL).unwrap();
    let [deepseek, local, signed] = &config.upstreams[..] else { panic!("three upstreams") };
    assert_eq!((deepseek.name.as_str(), deepseek.provider), ("deepseek-us", Provider::DeepSeek));
    assert_eq!(deepseek.auth, Auth::Bearer { api_key: SecretRef::Environment("DEEPSEEK_API_KEY".into()) });
    assert_eq!((local.account.as_str(), local.priority, &local.auth), ("local", 9, &Auth::None));
    assert_eq!(signed.auth.kind(), "jwt");
    assert_eq!(config.routes[0].targets.len(), 2);
    assert_eq!(config.limits[0].concurrency, Some(2500));
    let windows: Vec<_> = config.limits[0].windows.iter().map(|w| (w.key, w.length_s, w.at_most)).collect();
    assert_eq!(windows, [("requests_per_minute", 60, 3000), ("tokens_per_minute", 60, 1_000_000)]);
    assert_eq!(config.queues[0].retry, Some(RetryPolicy::default()));
    assert_eq!(config.breaker, Breaker::default());
}

#[test]
fn what_is_not_said_has_the_documented_default() {
    let upstream = &Configuration::parse(MINIMAL).unwrap().upstreams[0];
    assert_eq!((upstream.account.as_str(), upstream.priority, upstream.weight), ("a", 1, 1));
    assert_eq!((upstream.connect_timeout, upstream.max_idle_connections), (Duration::from_secs(2), 64));
}

#[test]
fn the_shipped_example_has_effect_in_full() {
    let example = include_str!("../../../../examples/sluice.yaml");
    let config = Configuration::parse_in_effect(example).unwrap_or_else(|errors| panic!("{errors}"));
    let target = |model| config.route(model).map(|(upstream, model)| (upstream.name.as_str(), model));
    assert_eq!(target("deepseek-flash"), Some(("deepseek", "deepseek-flash")));
    assert_eq!(target("qwen3"), Some(("local", "qwen3-32b")));
    assert_eq!(target("gpt-5"), None);
}

#[test]
fn written_yaml_is_read_back_as_the_same() {
    let auths = "- {name: h, provider: openai, base_url: 'http://h', auth: {kind: header, name: X-Key, value: 'file:/k'}}\n\
        - {name: o, provider: openai, base_url: 'http://o', auth: {kind: oauth2, token_url: 'https://t/x',\n  \
        client_id: me, client_secret: '${S}', scope: all}}\n\
        - {name: m, provider: openai, base_url: 'http://m/v1', auth: {kind: hmac, secret: {file: /run/k}}}\n";
    let environment = |_: &str| Some("sk-1".to_owned());
    for config in [
        Configuration::parse(FULL).unwrap(),
        Configuration::parse(&format!("{MINIMAL}{auths}")).unwrap(),
        Configuration::from_environment_defaults(environment).unwrap(),
        Configuration::simulator("http://127.0.0.1:9000/"),
    ] {
        let yaml = config.to_yaml();
        assert_eq!(Configuration::parse(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}")), config, "{yaml}");
    }
}

#[test]
fn without_routes_any_model_goes_to_the_first_upstream_by_priority() {
    let more = "- { name: b, provider: openai, base_url: 'http://b.example', priority: 1 }\n\
        - { name: c, provider: openai, base_url: 'http://c.example', priority: 2 }\n";
    let config = Configuration::parse(&format!("{MINIMAL}{more}")).unwrap();
    let (upstream, model) = config.route("any-model").unwrap();
    assert_eq!((upstream.name.as_str(), model), ("a", "any-model"));
}

#[test]
fn deepseek_is_the_default_only_where_its_key_is_there() {
    assert_eq!(Configuration::from_environment_defaults(|_| None), None);
    assert_eq!(Configuration::from_environment_defaults(|_| Some("  ".to_owned())), None);
    let key = |name: &str| (name == "DEEPSEEK_API_KEY").then(|| "sk-1".to_owned());
    let config = Configuration::from_environment_defaults(key).unwrap();
    assert!(config.in_effect_errors().is_empty());
    let (upstream, model) = config.route("deepseek-flash").unwrap();
    assert_eq!((upstream.base_url.as_str(), model), ("https://api.deepseek.com", "deepseek-flash"));
    assert!(!config.to_yaml().contains("sk-1"));
}

#[test]
fn a_queue_without_a_policy_retries_as_default_does() {
    let text = format!(
        "{MINIMAL}queues:\n- {{ name: default, retry: {{ max_attempts: 7 }} }}\n- {{ name: own, retry: {{ strategy: \
         fixed, base_delay: 250ms }} }}\n- {{ name: bare }}\n"
    );
    let config = Configuration::parse(&text).unwrap();
    let sevenfold = RetryPolicy { max_attempts: 7, ..RetryPolicy::default() };
    let own = RetryPolicy {
        strategy: RetryStrategy::Fixed,
        base_delay: Duration::from_millis(250),
        ..RetryPolicy::default()
    };
    assert_eq!(config.retry_policy("own"), own);
    assert_eq!(config.retry_policy("bare"), sevenfold);
    assert_eq!(config.retry_policy("never-named"), sevenfold);
    assert_eq!(Configuration::parse(MINIMAL).unwrap().retry_policy("x"), RetryPolicy::default());
}
