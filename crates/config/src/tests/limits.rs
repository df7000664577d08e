use sluice_domain::{ModelName, QueueName, TenantName};

use super::{FULL, MINIMAL};
use crate::Configuration;

fn model(name: &str) -> ModelName {
    ModelName::from_stored(name.to_owned())
}

fn limits_of(config: &Configuration, queue: &str, account: &str, of_model: &str) -> Vec<String> {
    let queue = QueueName::new(queue).unwrap();
    let limits = config.limits_of(&TenantName::default_tenant(), &queue, account, &model(of_model));
    limits.iter().map(ToString::to_string).collect()
}

#[test]
fn a_job_takes_of_the_limits_of_its_account_model_and_queue() {
    let config = Configuration::parse(FULL).unwrap();
    let all = [
        "account \"main\", model \"deepseek-flash\": 2500 at once",
        "account \"main\", model \"deepseek-flash\": 3000 requests a minute",
        "account \"main\", model \"deepseek-flash\": 1000000 tokens a minute",
        "queue \"default\": 500 at once",
    ];
    assert_eq!(limits_of(&config, "default", "main", "deepseek-flash"), all);
    assert_eq!(limits_of(&config, "other", "main", "deepseek-flash"), all[..3]);
    assert_eq!(limits_of(&config, "other", "main", "another"), [""; 0]);
    assert_eq!(config.declared_limits().len(), 4);
}

#[test]
fn a_limit_without_a_model_is_of_all_of_them() {
    let config =
        Configuration::parse(&format!("{MINIMAL}limits: [{{ account: a, requests_per_day: 9 }}]\n")).unwrap();
    assert_eq!(limits_of(&config, "default", "a", "any"), ["account \"a\": 9 requests a day"]);
}

#[test]
fn what_is_found_out_is_of_each_model_by_itself_and_what_is_said_of_a_model_comes_first() {
    let text = format!(
        "{MINIMAL}limits:\n\
         - {{ account: a, adaptive: {{}}, requests_per_day: 9 }}\n\
         - {{ account: a, model: narrow, adaptive: {{ floor: 2, ceiling: 50 }} }}\n\
         - {{ account: a, model: told, concurrency: 5 }}\n\
         - {{ account: a, model: windowed, requests_per_minute: 7 }}\n"
    );
    let config = Configuration::parse(&text).unwrap();
    let per_day = "account \"a\": 9 requests a day";
    let found_out = |name: &str, ceiling: u64| {
        format!("account \"a\", model {name:?}: {ceiling} at once at most, found out by trying")
    };
    let of = |name: &str| limits_of(&config, "default", "a", name);
    assert_eq!(of("any"), [per_day.to_owned(), found_out("any", 10_000)]);
    assert_eq!(of("narrow"), [per_day.to_owned(), found_out("narrow", 50)]);
    assert_eq!(of("told"), [per_day, "account \"a\", model \"told\": 5 at once"]);
    assert_eq!(of("windowed").last(), Some(&found_out("windowed", 10_000)));
    let declared = config.declared_limits();
    let floors: Vec<_> = declared.iter().filter_map(|limit| Some((limit.floor?, limit.cap))).collect();
    assert_eq!(floors, [(1, 10_000), (2, 50)]);
    assert_eq!(Configuration::parse(&config.to_yaml()).unwrap(), config);
}

#[test]
fn tenants_have_the_weight_that_is_said_or_one() {
    let text = format!("{MINIMAL}tenants: [ {{ name: search, weight: 3 }}, {{ name: nightly }} ]\n");
    let config = Configuration::parse(&text).unwrap();
    let weights =
        ["search", "nightly", "other"].map(|name| config.tenant_weight(&TenantName::new(name).unwrap()));
    assert_eq!(weights, [3, 1, 1]);
    assert_eq!(Configuration::parse(&config.to_yaml()).unwrap(), config);
}
