//! The alert rules of `deploy/alerts` ask for what processes show.

use std::collections::BTreeSet;

use serde_json::Value;

use super::metrics_page::measured;
use crate::MetricsRegistry;

const RULES: &str = include_str!("../../../../deploy/alerts/sluice.rules.yaml");

/// The rules, one after the other.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(RULES).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The words of an expression that are ours: metrics and labels.
fn words(rule: &Value) -> BTreeSet<&str> {
    let expression = rule["expr"].as_str().unwrap();
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("sluice_")).collect()
}

#[test]
fn every_metric_and_label_of_a_rule_is_one_that_is_shown() {
    let registry = MetricsRegistry::new().unwrap();
    measured(&registry);
    let page = registry.render_prometheus();
    let shown: BTreeSet<&str> =
        page.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect();
    for rule in rules() {
        assert!(!words(&rule).is_empty(), "{rule}");
        for word in words(&rule) {
            assert!(shown.contains(word), "{word} of {rule} is not shown");
        }
    }
}

#[test]
fn whatever_should_wake_somebody_has_a_rule() {
    let rules = rules();
    let asked: BTreeSet<&str> = rules.iter().flat_map(words).collect();
    for metric in [
        "sluice_attempts_unknown_total",
        "sluice_beats_failed_total",
        "sluice_beats_late_total",
        "sluice_brake_engaged",
        "sluice_brake_engagements_total",
        "sluice_incarnations",
        "sluice_incarnations_died_total",
        "sluice_incarnations_renewed_total",
        "sluice_jobs_held",
        "sluice_leases_expired_total",
        "sluice_leases_overdue_age_seconds",
        "sluice_settle_late_results_total",
        "sluice_settle_stale_writes_total",
        "sluice_spool_failed_total",
        "sluice_suspects_crashed_total",
        "sluice_suspects_put_off_total",
    ] {
        assert!(asked.contains(metric), "{metric} has no rule");
    }
}

#[test]
fn each_rule_is_explained_in_the_guide_and_says_what_to_do() {
    let guide = include_str!("../../../../docs/operations.md");
    let mut names = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap().to_owned();
        assert!(guide.contains(&format!("`{name}`")), "{name} is not in docs/operations.md");
        for part in ["/labels/severity", "/annotations/summary", "/annotations/action"] {
            assert!(rule.pointer(part).is_some_and(Value::is_string), "{name} lacks {part}");
        }
        assert!(names.insert(name), "{rule} has the name of another");
    }
}
