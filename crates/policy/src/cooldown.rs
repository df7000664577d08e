//! Cooldowns: how long an answer closes a gate for everybody, and how fast calls follow when it opens.
//!
//! What the upstream says counts: `Retry-After`, or a bucket that its headers call empty. Where it says nothing, a
//! refusal is the job's matter alone, until several in a row without an answer between say that nothing gets through.
//!
//! Not here: when its own job is tried again (`retry`), and failures of other kinds.

use std::time::Duration;

use rand::{Rng, RngExt};
use sluice_domain::ErrorClass;

use crate::{
    backoff::MAX_RETRY_AFTER,
    rate_limit::{Bucket, RateLimits},
};

/// Refusals in a row, without an answer between, that close a gate though nobody said for how long.
const UNTOLD_AFTER: u32 = 10;
/// For so long at first, twice as long with each further refusal,
const FIRST_UNTOLD: Duration = Duration::from_millis(500);
/// and so long at most.
const LAST_UNTOLD: Duration = Duration::from_secs(30);
/// Of a worker's slots, so many in a hundred may begin within each 100 ms once a gate is open again,
const RAMP_PERCENT: f64 = 4.0;
/// of which this part may begin at one moment: together never more than five in a hundred.
const RAMP_BURST: f64 = 0.25;
/// After so long all slots may have begun, and nothing is held back any more.
pub const RAMP: Duration = Duration::from_millis(2_500);

/// How long a gate is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cooldown {
    /// From now.
    pub wait: Duration,
    /// Whether the upstream said so.
    pub is_told: bool,
}

/// What an answer means for the gate that it came through; `None`: nothing. `class` is that of its failure, `in_a_row`
/// how many refusals came in a row, this one included.
pub fn after_answer(
    class: Option<ErrorClass>,
    retry_after: Option<Duration>,
    limits: &RateLimits,
    in_a_row: u32,
    rng: &mut impl Rng,
) -> Option<Cooldown> {
    let empty = [until_one(&limits.requests), until_some(&limits.tokens)].into_iter().flatten().max();
    if !is_refusal(class) {
        return empty.map(|wait| Cooldown { wait, is_told: true });
    }
    if let Some(wait) = retry_after.max(empty) {
        return Some(Cooldown { wait: wait.min(MAX_RETRY_AFTER), is_told: true });
    }
    let further = in_a_row.checked_sub(UNTOLD_AFTER)?;
    let longest = (FIRST_UNTOLD * 2_u32.pow(further.min(16))).min(LAST_UNTOLD);
    Some(Cooldown { wait: longest.mul_f64(rng.random_range(0.5..=1.0)), is_told: false })
}

/// Whether it is the upstream's capacity that was refused.
pub const fn is_refusal(class: Option<ErrorClass>) -> bool {
    matches!(class, Some(ErrorClass::RateLimited | ErrorClass::Overloaded))
}

/// A bucket fills evenly: until there is one request in it again.
fn until_one(bucket: &Bucket) -> Option<Duration> {
    let (limit, reset) = empty(bucket)?;
    Some(reset.div_f64(limit.max(1) as f64).max(Duration::from_millis(1)))
}

/// Until a tenth of it is there: how much the next job needs is not known here.
fn until_some(bucket: &Bucket) -> Option<Duration> {
    empty(bucket).map(|(_, reset)| reset / 10)
}

/// The size of a bucket that is said to be empty, and how long it takes to fill. Some servers say 0 and mean that they
/// have no limit: those give no limit either.
fn empty(bucket: &Bucket) -> Option<(u64, Duration)> {
    let limit = bucket.limit.filter(|limit| *limit > 0)?;
    let reset = bucket.reset.filter(|reset| !reset.is_zero())?;
    (bucket.remaining == Some(0)).then_some((limit, reset.min(MAX_RETRY_AFTER)))
}

/// How calls follow when a gate is open again: evenly, so that at no moment all come at once.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    slots: f64,
    begun: f64,
}

impl Ramp {
    /// Of a worker with so many slots. `phase` (0 to 1) is by chance, so that small workers don't begin together.
    pub fn new(slots: usize, since_open: Duration, phase: f64) -> Self {
        let slots = slots as f64;
        // What was not used before is not made up for.
        let ramp = Self { slots, begun: 0.0 };
        Self { begun: ramp.allowed_by(since_open) - phase, ..ramp }
    }

    /// So many may begin now, `since_open`; `None`: all, the ramp is over.
    pub fn may_begin(&self, since_open: Duration) -> Option<usize> {
        if since_open >= RAMP {
            return None;
        }
        let burst = (self.slots * RAMP_PERCENT / 100.0 * RAMP_BURST).max(1.0);
        Some((self.allowed_by(since_open) - self.begun).clamp(0.0, burst) as usize)
    }

    /// So many have begun.
    pub fn began(&mut self, count: usize, since_open: Duration) {
        let burst = (self.slots * RAMP_PERCENT / 100.0 * RAMP_BURST).max(1.0);
        // Leave that was not used lapses.
        self.begun = self.begun.max(self.allowed_by(since_open) - burst) + count as f64;
    }

    /// When at least one may begin, from the opening on.
    pub fn next_after(&self, since_open: Duration) -> Duration {
        let missing = (self.begun + 1.0 - self.allowed_by(since_open)).max(0.0);
        since_open + Duration::from_secs_f64(missing / (self.slots * RAMP_PERCENT / 100.0).max(0.01) * 0.1)
    }

    fn allowed_by(&self, since_open: Duration) -> f64 {
        self.slots * RAMP_PERCENT / 100.0 * since_open.as_secs_f64() / 0.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const REFUSED: Option<ErrorClass> = Some(ErrorClass::RateLimited);

    fn after(class: Option<ErrorClass>, retry_after: Option<Duration>, in_a_row: u32) -> Option<Cooldown> {
        after_answer(class, retry_after, &RateLimits::default(), in_a_row, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn what_is_told_closes_at_once_and_over_an_hour_counts_as_an_hour() {
        let told = |wait| Some(Cooldown { wait, is_told: true });
        assert_eq!(after(REFUSED, Some(Duration::from_secs(7)), 1), told(Duration::from_secs(7)));
        assert_eq!(after(REFUSED, Some(Duration::MAX), 1), told(MAX_RETRY_AFTER));
        assert_eq!(after(None, Some(Duration::from_secs(7)), 0), None, "an answer");
        assert_eq!(after(Some(ErrorClass::ServerError), Some(Duration::from_secs(7)), 0), None);
    }

    #[test]
    fn without_a_word_only_several_in_a_row_close_and_longer_each_time() {
        assert_eq!(after(REFUSED, None, UNTOLD_AFTER - 1), None);
        let first = after(REFUSED, None, UNTOLD_AFTER).unwrap();
        let third = after(REFUSED, None, UNTOLD_AFTER + 2).unwrap();
        assert!(!first.is_told && first.wait <= FIRST_UNTOLD && first.wait >= FIRST_UNTOLD / 2);
        assert!(third.wait > first.wait);
        assert!(after(REFUSED, None, u32::MAX).unwrap().wait <= LAST_UNTOLD);
    }

    #[test]
    fn a_bucket_that_is_said_to_be_empty_closes_until_something_is_in_it() {
        let bucket = |limit, remaining| Bucket { limit, remaining, reset: Some(Duration::from_mins(1)) };
        let answered = |requests, tokens| {
            after_answer(None, None, &RateLimits { requests, tokens }, 0, &mut StdRng::seed_from_u64(1))
        };
        let none = Bucket::default();
        let wait = |cooldown: Option<Cooldown>| cooldown.map(|cooldown| cooldown.wait);
        assert_eq!(wait(answered(bucket(Some(60), Some(0)), none)), Some(Duration::from_secs(1)));
        assert_eq!(wait(answered(none, bucket(Some(1_000), Some(0)))), Some(Duration::from_secs(6)));
        assert_eq!(answered(bucket(Some(60), Some(1)), bucket(None, Some(0))), None);
        assert_eq!(answered(bucket(Some(0), Some(0)), none), None);
    }

    proptest! {
        #[test]
        fn a_ramp_lets_no_more_than_a_twentieth_begin_in_any_tenth_of_a_second_and_all_in_the_end(
            slots in 40_usize..5_000, phase in 0.0..1.0_f64, looks in prop::collection::vec(0_u64..60, 10..200),
        ) {
            let mut ramp = Ramp::new(slots, Duration::ZERO, phase);
            let mut now = Duration::ZERO;
            let mut begun: Vec<(Duration, usize)> = Vec::new();
            for rest in looks {
                now += Duration::from_millis(rest);
                let Some(count) = ramp.may_begin(now) else { break };
                ramp.began(count, now);
                begun.push((now, count));
            }
            for (at, _) in &begun {
                let within: usize = begun
                    .iter()
                    .filter(|(other, _)| other >= at && *other < *at + Duration::from_millis(100))
                    .map(|(_, count)| count)
                    .sum();
                prop_assert!(within as f64 <= (slots as f64 * 0.05).max(1.0) + 1.0, "{within} of {slots}");
            }
            prop_assert_eq!(ramp.may_begin(RAMP), None);
        }

        #[test]
        fn whoever_waits_as_told_may_begin(slots in 1_usize..5_000, phase in 0.0..1.0_f64) {
            let mut ramp = Ramp::new(slots, Duration::ZERO, phase);
            let mut now = Duration::ZERO;
            for _ in 0..20 {
                now = ramp.next_after(now) + Duration::from_millis(1);
                let Some(count) = ramp.may_begin(now) else { return Ok(()) };
                prop_assert!(count >= 1, "{ramp:?} at {now:?}");
                ramp.began(count, now);
            }
        }
    }
}
