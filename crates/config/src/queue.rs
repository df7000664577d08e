//! Queues with their retry policies, and the circuit breaker.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};
use sluice_domain::{ErrorClass, MAX_MAX_ATTEMPTS, QueueName};
use sluice_policy::{
    backoff::{RetryPolicies, RetryPolicy, RetryStrategy},
    breaker::BreakerPolicy,
};

use crate::{
    duration,
    problem::Problems,
    section::{Field, Section},
};

const STRATEGIES: [(&str, RetryStrategy); 5] = [
    ("full_jitter", RetryStrategy::FullJitter),
    ("equal_jitter", RetryStrategy::EqualJitter),
    ("additive_jitter", RetryStrategy::AdditiveJitter),
    ("exponential", RetryStrategy::Exponential),
    ("fixed", RetryStrategy::Fixed),
];

/// A named line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// Jobs of it that run at once, over all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Its share among the queues of a tenant.
    pub weight: u16,
    /// How its jobs are retried; `None` leaves it to the queue `default`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "retry_as_written")]
    pub retry: Option<RetryPolicies>,
}

impl Queue {
    /// Reads one item of `queues`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &["name", "max_running", "weight", "retry"], problems)?;
        let name = section.require("name", problems);
        let name = name.and_then(|f| f.parsed(|text| QueueName::new(text).map_err(|e| e.problem), problems));
        let max_running = section.get("max_running").and_then(|f| f.integer(1..=10_000_000, problems));
        let weight = section.get("weight").and_then(|f| f.integer(1..=1000, problems)).unwrap_or(1);
        let retry = section.get("retry").and_then(|f| read_retry(&f, problems));
        Some(Self { name: name?, max_running: max_running.map(|n| n as u32), weight: weight as u16, retry })
    }
}

const POLICY_KEYS: [&str; 5] = ["max_attempts", "strategy", "base_delay", "min_delay", "max_delay"];

/// What the policy of a queue does not say is as in [`RetryPolicy::default`]; what that of a class does not say is as its
/// queue says.
fn read_retry(field: &Field<'_>, problems: &mut Problems) -> Option<RetryPolicies> {
    let known = [&POLICY_KEYS[..], &["by_class"]].concat();
    let section = Section::of(field, &known, problems)?;
    let usual = read_policy(&section, RetryPolicy::default(), problems);
    let mut by_class = BTreeMap::new();
    if let Some(field) = section.get("by_class") {
        let classes: Vec<_> = ErrorClass::ALL.iter().map(|class| class.as_str()).collect();
        for (name, field) in Section::of(&field, &classes, problems)?.fields() {
            let policy = Section::of(&field, &POLICY_KEYS, problems);
            if let (Ok(class), Some(section)) = (name.parse::<ErrorClass>(), policy) {
                by_class.insert(class, read_policy(&section, usual, problems));
            }
        }
    }
    Some(RetryPolicies { usual, by_class })
}

fn read_policy(section: &Section<'_>, mut policy: RetryPolicy, problems: &mut Problems) -> RetryPolicy {
    let tries = 1..=u64::from(MAX_MAX_ATTEMPTS);
    if let Some(count) = section.get("max_attempts").and_then(|f| f.integer(tries, problems)) {
        policy.max_attempts = count as u16;
    }
    if let Some(strategy) = section.get("strategy").and_then(|f| f.word(&STRATEGIES, problems)) {
        policy.strategy = strategy;
    }
    let day = Duration::from_hours(24);
    let mut delay = |key: &str, low: Duration, default: Duration| {
        section.get(key).and_then(|f| f.duration(low..=day, problems)).unwrap_or(default)
    };
    policy.base_delay = delay("base_delay", Duration::from_millis(1), policy.base_delay);
    policy.min_delay = delay("min_delay", Duration::ZERO, policy.min_delay);
    policy.max_delay = delay("max_delay", Duration::from_millis(1), policy.max_delay);
    for (key, value) in [("base_delay", policy.base_delay), ("min_delay", policy.min_delay)] {
        if value > policy.max_delay {
            let (value, cap) = (duration::render(value), duration::render(policy.max_delay));
            section.problem(format!("{key} ({value}) is above max_delay ({cap})"), problems);
        }
    }
    policy
}

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
fn retry_as_written<S: Serializer>(
    policies: &Option<RetryPolicies>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(policies) = policies else { return serializer.serialize_none() };
    let by_class: BTreeMap<_, _> = policies
        .by_class
        .iter()
        .map(|(class, policy)| (class.as_str(), PolicyAsWritten::of(policy, None)))
        .collect();
    let by_class = Some(by_class).filter(|classes| !classes.is_empty());
    PolicyAsWritten::of(&policies.usual, by_class).serialize(serializer)
}

/// A policy in the words of the file.
#[derive(Serialize)]
struct PolicyAsWritten {
    max_attempts: u16,
    strategy: RetryStrategy,
    #[serde(serialize_with = "duration::serialize")]
    base_delay: Duration,
    #[serde(serialize_with = "duration::serialize")]
    min_delay: Duration,
    #[serde(serialize_with = "duration::serialize")]
    max_delay: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_class: Option<BTreeMap<&'static str, PolicyAsWritten>>,
}

impl PolicyAsWritten {
    fn of(policy: &RetryPolicy, by_class: Option<BTreeMap<&'static str, Self>>) -> Self {
        let RetryPolicy { max_attempts, strategy, base_delay, min_delay, max_delay } = *policy;
        Self { max_attempts, strategy, base_delay, min_delay, max_delay, by_class }
    }
}

/// When calls to an upstream are stopped because it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// How long it stays open before it is tried again.
    #[serde(serialize_with = "duration::serialize")]
    pub reset_timeout: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        let BreakerPolicy { failure_threshold, reset_timeout } = BreakerPolicy::default();
        Self { failure_threshold, reset_timeout }
    }
}

impl From<Breaker> for BreakerPolicy {
    fn from(declared: Breaker) -> Self {
        let Breaker { failure_threshold, reset_timeout } = declared;
        Self { failure_threshold, reset_timeout }
    }
}

impl Breaker {
    /// Reads `breaker`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Self {
        let mut breaker = Self::default();
        let Some(section) = Section::of(field, &["failure_threshold", "reset_timeout"], problems) else {
            return breaker;
        };
        if let Some(count) = section.get("failure_threshold").and_then(|f| f.integer(1..=1000, problems)) {
            breaker.failure_threshold = count as u32;
        }
        let timeouts = Duration::from_millis(100)..=Duration::from_hours(24);
        if let Some(wait) = section.get("reset_timeout").and_then(|f| f.duration(timeouts, problems)) {
            breaker.reset_timeout = wait;
        }
        breaker
    }
}
