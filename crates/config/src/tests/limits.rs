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
