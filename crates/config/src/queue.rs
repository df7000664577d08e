//! Queues with their retry policies, and the circuit breaker.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use sluice_domain::{MAX_MAX_ATTEMPTS, QueueName};
use sluice_policy::backoff::{RetryPolicy, RetryStrategy};

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
    pub retry: Option<RetryPolicy>,
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

/// What a policy does not say is as in [`RetryPolicy::default`].
fn read_retry(field: &Field<'_>, problems: &mut Problems) -> Option<RetryPolicy> {
    let known = ["max_attempts", "strategy", "base_delay", "min_delay", "max_delay"];
    let section = Section::of(field, &known, problems)?;
    let mut policy = RetryPolicy::default();
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
    Some(policy)
}

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
fn retry_as_written<S: Serializer>(policy: &Option<RetryPolicy>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(policy) = policy else { return serializer.serialize_none() };
    let mut retry = serializer.serialize_struct("retry", 5)?;
    retry.serialize_field("max_attempts", &policy.max_attempts)?;
    retry.serialize_field("strategy", &policy.strategy)?;
    retry.serialize_field("base_delay", &duration::render(policy.base_delay))?;
    retry.serialize_field("min_delay", &duration::render(policy.min_delay))?;
    retry.serialize_field("max_delay", &duration::render(policy.max_delay))?;
    retry.end()
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
        Self { failure_threshold: 5, reset_timeout: Duration::from_mins(1) }
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
