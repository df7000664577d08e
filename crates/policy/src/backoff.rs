//! How long a job rests before it is tried again.
//!
//! Not here: whether it is tried again at all (`retry`), and pauses that many jobs share (cooldowns, breakers).

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use sluice_domain::{DEFAULT_MAX_ATTEMPTS, ErrorClass};

/// A `Retry-After` above this counts as this: nobody means an hour and more, and a typo must not park a queue.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// How far starts are spread above a `Retry-After` that many callers were given at the same moment. Spread evenly,
/// 2 % of them fall into any 100 ms.
const RETRY_AFTER_SPREAD: Duration = Duration::from_secs(5);

/// The shape of the wait between tries. `n` counts the earlier tries, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryStrategy {
    /// Anything between nothing and `base · 2^n`: spreads a herd best.
    #[default]
    FullJitter,
    /// Half of `base · 2^n`, and anything up to the other half.
    EqualJitter,
    /// `base · 2^n` and up to a second more.
    AdditiveJitter,
    /// `base · 2^n` to the dot.
    Exponential,
    /// `base`, always.
    Fixed,
}

/// How a queue retries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Tries at most, for jobs that don't say.
    pub max_attempts: u16,
    /// The shape of the wait.
    pub strategy: RetryStrategy,
    /// The wait that the shape grows from.
    pub base_delay: Duration,
    /// Never less than this.
    pub min_delay: Duration,
    /// Never more than this, but for a `Retry-After`.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// 3 tries, full jitter from 1 s, cap 30 s.
    fn default() -> Self {
        Self {
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            strategy: RetryStrategy::FullJitter,
            base_delay: Duration::from_secs(1),
            min_delay: Duration::ZERO,
            max_delay: Duration::from_secs(30),
        }
    }
}

/// How a queue retries, with what differs by the class of the failure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RetryPolicies {
    /// For classes that are not named.
    pub usual: RetryPolicy,
    /// For those that are.
    pub by_class: BTreeMap<ErrorClass, RetryPolicy>,
}

impl RetryPolicies {
    /// How a failure of `class` is retried.
    pub fn of(&self, class: ErrorClass) -> &RetryPolicy {
        self.by_class.get(&class).unwrap_or(&self.usual)
    }

    /// Tries at most of a job that says `own` itself: its word, but no more than what is said for a class by its name.
    pub fn max_attempts(&self, class: ErrorClass, own: Option<u16>) -> u16 {
        match (self.by_class.get(&class), own) {
            (Some(policy), Some(own)) => own.min(policy.max_attempts),
            (Some(policy), None) => policy.max_attempts,
            (None, own) => own.unwrap_or(self.usual.max_attempts),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after `tries_so_far` earlier tries (0 after the first one failed).
    ///
    /// `retry_after`, capped at [`MAX_RETRY_AFTER`], is a floor: jitter goes above it under every strategy, because
    /// whoever was refused together was told the same time.
    pub fn delay(&self, tries_so_far: u16, retry_after: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let own = self.shape(tries_so_far, rng).min(self.max_delay).max(self.min_delay);
        match retry_after.filter(|wait| !wait.is_zero()) {
            Some(floor) => own.max(floor.min(MAX_RETRY_AFTER) + up_to(RETRY_AFTER_SPREAD, rng)),
            None => own,
        }
    }

    fn shape(&self, tries_so_far: u16, rng: &mut impl Rng) -> Duration {
        // 2^31 already outgrows any base; the cap keeps the jitter inside `max_delay` instead of piling up on it.
        let factor = 2_u32.pow(u32::from(tries_so_far.min(31)));
        let grown = self.base_delay.saturating_mul(factor).min(self.max_delay);
        match self.strategy {
            RetryStrategy::FullJitter => up_to(grown, rng),
            RetryStrategy::EqualJitter => grown / 2 + up_to(grown / 2, rng),
            RetryStrategy::AdditiveJitter => grown.saturating_add(up_to(Duration::from_secs(1), rng)),
            RetryStrategy::Exponential => grown,
            RetryStrategy::Fixed => self.base_delay,
        }
    }
}

/// An even draw from nothing to `limit`, in whole microseconds.
fn up_to(limit: Duration, rng: &mut impl Rng) -> Duration {
    let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.random_range(0..=limit_us))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const STRATEGIES: [RetryStrategy; 5] = [
        RetryStrategy::FullJitter,
        RetryStrategy::EqualJitter,
        RetryStrategy::AdditiveJitter,
        RetryStrategy::Exponential,
        RetryStrategy::Fixed,
    ];

    fn range(strategy: RetryStrategy, tries_so_far: u16) -> (Duration, Duration) {
        let policy = RetryPolicy { strategy, ..RetryPolicy::default() };
        let delays =
            (0..2_000).map(|seed| policy.delay(tries_so_far, None, &mut StdRng::seed_from_u64(seed)));
        let delays: Vec<_> = delays.collect();
        (*delays.iter().min().unwrap(), *delays.iter().max().unwrap())
    }

    #[test]
    fn a_class_has_its_own_policy_and_the_jobs_word_bounds_it() {
        let named = RetryPolicy { max_attempts: 5, ..RetryPolicy::default() };
        let by_class = BTreeMap::from([(ErrorClass::ServerError, named)]);
        let policies = RetryPolicies { by_class, ..RetryPolicies::default() };
        assert_eq!(policies.of(ErrorClass::ServerError), &named);
        assert_eq!(policies.of(ErrorClass::Stalled), &RetryPolicy::default());
        let most = |class, own| policies.max_attempts(class, own);
        assert_eq!((most(ErrorClass::ServerError, None), most(ErrorClass::ServerError, Some(9))), (5, 5));
        assert_eq!((most(ErrorClass::Stalled, None), most(ErrorClass::Stalled, Some(9))), (3, 9));
        assert_eq!(most(ErrorClass::ServerError, Some(2)), 2);
    }

    #[test]
    fn each_strategy_draws_from_its_own_range() {
        let near = |a: Duration, seconds: f64| (a.as_secs_f64() - seconds).abs() < 0.05 * seconds.max(1.0);
        for (strategy, tries, low, high) in [
            (RetryStrategy::FullJitter, 0, 0.0, 1.0),
            (RetryStrategy::FullJitter, 3, 0.0, 8.0),
            (RetryStrategy::FullJitter, 60_000, 0.0, 30.0),
            (RetryStrategy::EqualJitter, 2, 2.0, 4.0),
            (RetryStrategy::AdditiveJitter, 2, 4.0, 5.0),
            (RetryStrategy::Exponential, 4, 16.0, 16.0),
            (RetryStrategy::Exponential, 5, 30.0, 30.0),
            (RetryStrategy::Fixed, 9, 1.0, 1.0),
        ] {
            let (least, most) = range(strategy, tries);
            assert!(
                near(least, low) && near(most, high),
                "{strategy:?} after {tries}: {least:?} to {most:?}"
            );
        }
    }

    #[test]
    fn a_herd_that_was_told_one_time_does_not_start_in_one_moment() {
        let told = Duration::from_secs(7);
        for strategy in STRATEGIES {
            let policy = RetryPolicy { strategy, ..RetryPolicy::default() };
            let mut buckets = std::collections::BTreeMap::<u128, u32>::new();
            for seed in 0..2_000 {
                let delay = policy.delay(0, Some(told), &mut StdRng::seed_from_u64(seed));
                assert!(delay >= told);
                *buckets.entry(delay.as_millis() / 100).or_default() += 1;
            }
            assert!(buckets.values().all(|count| *count <= 100), "{strategy:?}: {buckets:?}");
        }
    }

    proptest! {
        #[test]
        fn a_delay_is_never_before_retry_after_nor_outside_its_bounds(
            strategy in proptest::sample::select(&STRATEGIES[..]),
            base_ms in any::<u32>(), min_ms in 0_u64..60_000, max_ms in 0_u64..100_000,
            tries in any::<u16>(), retry_after_s in proptest::option::of(0_u64..100_000), seed in any::<u64>(),
        ) {
            let policy = RetryPolicy {
                max_attempts: 3,
                strategy,
                base_delay: Duration::from_millis(base_ms.into()),
                min_delay: Duration::from_millis(min_ms),
                max_delay: Duration::from_millis(max_ms),
            };
            let told = retry_after_s.map(Duration::from_secs);
            let delay = policy.delay(tries, told, &mut StdRng::seed_from_u64(seed));
            let floor = told.unwrap_or_default().min(MAX_RETRY_AFTER);
            prop_assert!(delay >= floor.max(policy.min_delay));
            prop_assert!(delay <= policy.max_delay.max(policy.min_delay).max(floor + RETRY_AFTER_SPREAD));
        }
    }
}
