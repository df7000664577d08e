//! How much of an upstream's calls retries may take.
//!
//! When an upstream half fails, each failed call comes back, and soon retries crowd out the first tries: the work done shrinks
//! just when there is less room for it. So retries take at most one in ten of the calls while first tries wait, but are
//! never held below a floor of one a second. Each first try earns a ninth of a retry, and time earns the floor; a retry
//! that is not earned yet is put off until it is.
//!
//! Each worker keeps a budget of its own for what it calls, with its part of the floor: the parts add up to the rule.
//! Not here: whether a job is tried again at all, and how long it rests for its own sake (`retry`, `backoff`).

use std::time::Duration;

/// Retries that a first try earns: one in ten calls is then a retry.
const EARNED_PER_FIRST_TRY: f64 = 1.0 / 9.0;
/// The most that is saved: a few retries at once hurt nobody.
const MOST_SAVED: f64 = 5.0;
/// Slower than that nothing is earned.
const LEAST_PER_S: f64 = 0.001;
/// No retry is put off by more.
pub const MAX_HOLD: Duration = Duration::from_mins(5);
/// Over about so many seconds the pace of first tries is measured.
const PACE_S: f64 = 10.0;

/// The budget of one upstream. Times are on a clock of the caller's that never goes back.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryBudget {
    /// First tries a second, lately.
    pace: f64,
    at: Duration,
    /// When the next retry is earned, in seconds. Retries are strung along at the pace at which they are earned when they
    /// are promised, so that a pace which rises later doesn't bunch them.
    next_s: f64,
}

impl RetryBudget {
    /// A budget that begins now.
    pub const fn new(now: Duration) -> Self {
        Self { pace: 0.0, at: now, next_s: f64::NEG_INFINITY }
    }

    /// A first try is called.
    pub fn first_try(&mut self, now: Duration) {
        self.advance(now);
        self.pace += 1.0 / PACE_S;
    }

    /// Takes a retry out of it; says how long it must be put off. `floor_per_s` retries a second are always allowed.
    pub fn take_retry(&mut self, now: Duration, floor_per_s: f64) -> Duration {
        self.advance(now);
        let apart_s = 1.0 / (floor_per_s + self.pace * EARNED_PER_FIRST_TRY).max(LEAST_PER_S);
        let now_s = now.as_secs_f64();
        let due_s = self.next_s.max(now_s - MOST_SAVED * apart_s);
        let hold_s = (due_s - now_s).clamp(0.0, MAX_HOLD.as_secs_f64());
        // What would be promised for later than the longest hold comes when that is over in any case.
        self.next_s = (due_s + apart_s).min(now_s + MAX_HOLD.as_secs_f64());
        Duration::from_secs_f64(hold_s)
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.pace *= (-passed / PACE_S).exp();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_few_retries_are_free_and_further_ones_come_one_a_second() {
        let mut budget = RetryBudget::new(s(0));
        let holds: Vec<_> = (0..9).map(|_| budget.take_retry(s(0), 1.0)).collect();
        assert_eq!(holds, [0, 0, 0, 0, 0, 0, 1, 2, 3].map(s));
        assert_eq!(budget.take_retry(s(60), 1.0), Duration::ZERO);
    }

    #[test]
    fn first_tries_earn_retries() {
        let mut budget = RetryBudget::new(s(0));
        for n in 0..1_000 {
            budget.first_try(Duration::from_millis(n * 100));
        }
        // Ten first tries a second earn about one retry a second.
        let holds: Vec<_> = (0..10).map(|_| budget.take_retry(s(100), 0.0).as_secs_f64()).collect();
        let apart: Vec<_> = holds.windows(2).skip(6).map(|pair| pair[1] - pair[0]).collect();
        assert!(apart.iter().all(|apart| (0.8..1.0).contains(apart)), "{apart:?}");
    }

    #[test]
    fn nothing_is_put_off_for_ever() {
        let mut budget = RetryBudget::new(s(0));
        for _ in 0..100_000 {
            assert!(budget.take_retry(s(1), 0.001) <= MAX_HOLD);
        }
        assert!(budget.take_retry(s(1) + MAX_HOLD * 2, 0.001) <= MAX_HOLD);
    }

    proptest! {
        /// At a steady pace of first tries of which each fails once, retries are a tenth of all calls, or the floor.
        #[test]
        fn retries_are_one_in_ten_or_the_floor(per_s in 1_u32..500, floor in 0.1_f64..1.0) {
            let mut budget = RetryBudget::new(Duration::ZERO);
            let mut due: Vec<Duration> = Vec::new();
            for n in 0..per_s * 200 {
                let now = Duration::from_secs_f64(f64::from(n) / f64::from(per_s));
                budget.first_try(now);
                due.push(now + budget.take_retry(now, floor));
            }
            for from in [0, 50, 100] {
                let retries = due.iter().filter(|at| (s(from)..s(from + 100)).contains(*at)).count() as f64;
                let earned = (f64::from(per_s) / 9.0 + floor) * 100.0;
                prop_assert!(retries <= earned * 1.1 + 10.0, "{} retries, {} earned", retries, earned);
                prop_assert!(retries >= (floor * 100.0).floor() - 1.0, "{} retries: below the floor", retries);
            }
        }
    }
}
