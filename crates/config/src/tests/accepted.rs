use std::time::Duration;

use sluice_domain::ErrorClass;
use sluice_policy::backoff::{RetryPolicies, RetryPolicy, RetryStrategy};

use super::{FULL, MINIMAL};
use crate::{Auth, Breaker, Configuration, Provider, SecretRef, TokenAlgorithm};

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
    assert_eq!(config.queues[0].retry, Some(RetryPolicies::default()));
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
    let config = Configuration::parse(example).unwrap_or_else(|errors| panic!("{errors}"));
    let target = |model| config.route(model).map(|(upstream, model)| (upstream.name.as_str(), model));
    assert_eq!(target("deepseek-flash"), Some(("deepseek", "deepseek-flash")));
    assert_eq!(target("qwen3"), Some(("local", "qwen3-32b")));
    assert_eq!(target("gpt-5"), None);
}

const ACCESS: &str = "access:
  jwt:
    - { issuer: 'https://login.example.com', audience: sluice, algorithms: [RS256, EdDSA], jwks: 'file:/etc/jwks.json',
        tenant_claim: tenant, scope_claim: scope }
    - { issuer: internal, audience: sluice, algorithms: [HS256], jwks: '${JWKS}', tenant: search, scopes: [submit, read] }
  signed:
    - { id: billing, secret: '${BILLING_SECRET}', tenant: billing, scopes: [submit] }
";

#[test]
fn who_may_come_in_has_effect_and_stands_there_without_secrets() {
    let config = Configuration::parse(&format!("{MINIMAL}{ACCESS}")).unwrap();
    let [login, internal] = &config.access.jwt[..] else { panic!("two issuers") };
    assert_eq!(login.algorithms, [TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa]);
    assert_eq!((login.tenant_claim.as_deref(), &login.tenant, login.scopes), (Some("tenant"), &None, None));
    assert_eq!(internal.scopes.unwrap().to_string(), "submit,read");
    assert_eq!(config.access.signed[0].tenant.as_str(), "billing");
    assert!(Configuration::parse(MINIMAL).unwrap().access.is_empty());
}

const WEBHOOKS: &str = "webhooks:
  secrets:
    - { secret: '${HOOKS}' }
    - { tenant: search, secret: 'file:/run/new', previous: 'file:/run/old' }
  allow_addresses: ['10.1.0.0/16', '::1']
";

#[test]
fn secrets_of_webhooks_belong_to_tenants() {
    let config = Configuration::parse(&format!("{MINIMAL}{WEBHOOKS}")).unwrap();
    let [usual, search] = &config.webhooks.secrets[..] else { panic!("two secrets") };
    assert_eq!((usual.tenant.as_str(), usual.previous.is_none()), ("default", true));
    assert_eq!(search.tenant.as_str(), "search");
    assert_eq!(config.webhooks.secret_of(&search.tenant), Some(search));
    assert_eq!(config.webhooks.allow_addresses.len(), 2);
    assert!(Configuration::parse(MINIMAL).unwrap().webhooks.is_empty());
}

#[test]
fn written_yaml_is_read_back_as_the_same() {
    let auths = "- {name: h, provider: openai, base_url: 'http://h', auth: {kind: header, name: X-Key, value: 'file:/k'}}\n\
        - {name: o, provider: openai, base_url: 'http://o', auth: {kind: oauth2, token_url: 'https://t/x',\n  \
        client_id: me, client_secret: '${S}', scope: all}, stream: never, timeouts: {first_byte: 90s}}\n\
        - {name: j, provider: openai, base_url: 'http://j', auth: {kind: jwt, algorithm: EdDSA, secret: 'file:/k',\n  \
        key_id: k1, sign: call, lifetime: 5m}}\n\
        - {name: m, provider: openai, base_url: 'http://m/v1', auth: {kind: hmac, secret: {file: /run/k}}}\n";
    let environment = |_: &str| Some("sk-1".to_owned());
    for config in [
        Configuration::parse(FULL).unwrap(),
        Configuration::parse(&format!("{MINIMAL}{auths}")).unwrap(),
        Configuration::parse(&format!("{MINIMAL}{ACCESS}")).unwrap(),
        Configuration::parse(&format!("{MINIMAL}{WEBHOOKS}")).unwrap(),
        Configuration::from_environment_defaults(environment).unwrap(),
        Configuration::simulator("http://127.0.0.1:9000/"),
    ] {
        let yaml = config.to_yaml();
        assert_eq!(Configuration::parse(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}")), config, "{yaml}");
    }
}

#[test]
fn a_class_of_failure_is_retried_as_it_says_and_else_as_its_queue() {
    let queues = "queues:\n- { name: q, retry: { max_attempts: 4, base_delay: 2s, by_class: \
        { stalled: { max_attempts: 1 }, server_error: { base_delay: 5s } } } }\n";
    let config = Configuration::parse(&format!("{MINIMAL}{queues}")).unwrap();
    let policies = config.retry_policies("q");
    let told = |class| (policies.of(class).max_attempts, policies.of(class).base_delay.as_secs());
    assert_eq!(told(ErrorClass::Stalled), (1, 2));
    assert_eq!(told(ErrorClass::ServerError), (4, 5));
    assert_eq!(told(ErrorClass::RateLimited), (4, 2));
    assert_eq!(Configuration::parse(&config.to_yaml()).unwrap(), config);
}

#[test]
fn targets_stand_by_priority_and_then_as_they_were_written() {
    let more = "- { name: b, provider: openai, base_url: 'http://b.example', priority: 9 }\n\
        - { name: c, provider: openai, base_url: 'http://c.example', weight: 3 }\n";
    let routes =
        "routes: [{ model: m, targets: [{ upstream: b, model: n }, { upstream: c }, { upstream: a }] }]\n";
    let names = |config: &Configuration, model: &str| {
        let targets = config.targets(model);
        targets.iter().map(|(upstream, model)| format!("{}:{model}", upstream.name)).collect::<Vec<_>>()
    };
    let config = Configuration::parse(&format!("{MINIMAL}{more}{routes}")).unwrap();
    assert_eq!(names(&config, "m"), ["c:m", "a:m", "b:n"]);
    assert_eq!(names(&config, "other"), [""; 0]);
    let config = Configuration::parse(&format!("{MINIMAL}{more}")).unwrap();
    assert_eq!(names(&config, "any"), ["a:any", "c:any", "b:any"]);
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
