//! When calls to an upstream are stopped because it fails, and when they go on.
//!
//! A breaker is *closed* while calls go through. It *opens* after so many failures in a row, or when half of the last
//! twenty calls failed. While it is open, one call at a time and over all workers, the *trial*, may be made: when the
//! reset timeout is over, or sooner when a free probe was answered. The trial's end closes the breaker or starts the
//! timeout again.
//!
//! A probe is weak evidence: a server may list its models and fail each call. So the first good probe brings a trial at
//! once; after a trial has failed, the next good probe counts a quarter of the reset timeout later, then half of it, then
//! only the timeout itself counts. Whatever probes say, there are at most three trials in the first reset timeout, and
//! one in each that follows.
//!
//! Not here: who shares a breaker and how (`worker`, `store`), and pauses that need a person.

use std::time::Duration;

use sluice_domain::ErrorClass;

use crate::retry::Ending;

/// So many of the last calls are looked at.
pub const LAST_CALLS: u32 = 20;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// How long it stays open before it is tried again.
    pub reset_timeout: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failure_threshold: 5, reset_timeout: Duration::from_mins(1) }
    }
}

impl BreakerPolicy {
    /// How long good probes mean nothing after so many trials have failed.
    pub fn probes_distrusted_for(&self, failed_trials: u32) -> Duration {
        match failed_trials {
            0 => Duration::ZERO,
            1 => self.reset_timeout / 4,
            2 => self.reset_timeout / 2,
            _ => self.reset_timeout,
        }
    }
}

/// What a call says about its upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It works.
    Works,
    /// It answers, but not as one would judge its health by: a 429, or the job's own error.
    Answers,
    /// It fails.
    Fails,
    /// Nothing: the call was let go, or its own body kept it from being sent.
    Nothing,
}

impl Verdict {
    /// What the end of a call says about its upstream.
    pub const fn of(ending: Ending) -> Self {
        use ErrorClass as E;
        match ending {
            Ending::Succeeded => Self::Works,
            Ending::Answered(E::ServerError | E::Overloaded | E::UpstreamTimeout | E::MalformedAnswer)
            | Ending::NotSent(E::NotSent) => Self::Fails,
            Ending::Answered(_) => Self::Answers,
            Ending::Unknown(E::Cancelled) | Ending::NotSent(_) | Ending::Crashed(_) => Self::Nothing,
            Ending::Unknown(_) => Self::Fails,
        }
    }
}

/// The last calls to an upstream, while its breaker is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    in_a_row: u32,
    /// A bit for each of the last calls, the newest the lowest: 1 is a failure.
    failures: u32,
}

impl Tally {
    /// Counts a call. Says whether the breaker opens; if so, counting begins anew.
    pub fn opens_with(&mut self, verdict: Verdict, policy: &BreakerPolicy) -> bool {
        let is_failure = match verdict {
            Verdict::Works => false,
            Verdict::Fails => true,
            Verdict::Answers | Verdict::Nothing => return false,
        };
        self.failures = ((self.failures << 1) | u32::from(is_failure)) & ((1 << LAST_CALLS) - 1);
        self.in_a_row = if is_failure { self.in_a_row.saturating_add(1) } else { 0 };
        // A single row of failures is the threshold's business, also where that is above ten.
        let is_one_row = self.failures.count_ones() == self.failures.trailing_ones();
        let is_half = self.failures.count_ones() * 2 >= LAST_CALLS && !is_one_row;
        let opens = self.in_a_row >= policy.failure_threshold || is_half;
        if opens {
            *self = Self::default();
        }
        opens
    }
}

/// Silence of an upstream: calls wait for it, and nothing came from it for long. Packets that are swallowed look so, long
/// before any clock of a call runs out; so does an upstream whose calls just take long. So silence opens nothing: it asks
/// for a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Silence {
    /// Since when nothing came, while a call was waiting; on a clock of the caller.
    since: Option<Duration>,
    waiting: u32,
    /// How often in a row a probe was answered in this silence.
    forgiven: u32,
}

/// The shortest silence that is worth a probe.
const LEAST_SILENCE: Duration = Duration::from_secs(2);
/// After an answered probe the next silence may be twice as long, up to this many times.
const MAX_DOUBLINGS: u32 = 6;

impl Silence {
    /// A call begins.
    pub fn begun(&mut self, now: Duration) {
        if self.waiting == 0 {
            self.since = Some(now);
        }
        self.waiting += 1;
    }

    /// A call ended. `is_sign_of_life`: something came from the upstream.
    pub fn ended(&mut self, now: Duration, is_sign_of_life: bool) {
        self.waiting = self.waiting.saturating_sub(1);
        if is_sign_of_life {
            self.forgiven = 0;
        }
        if is_sign_of_life || self.waiting == 0 {
            self.since = (self.waiting > 0).then_some(now);
        }
    }

    /// Whether it has been silent for so long that a probe should ask. `usual` is how long its calls take.
    pub fn asks_for_probe(&self, now: Duration, usual: Option<Duration>) -> bool {
        let patience = usual.map_or(LEAST_SILENCE, |usual| LEAST_SILENCE.max(usual * 2));
        let patience = patience.saturating_mul(1 << self.forgiven.min(MAX_DOUBLINGS));
        self.since.is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// A probe was answered: the upstream is there, and its calls take long.
    pub fn forgive(&mut self, now: Duration) {
        self.forgiven = self.forgiven.saturating_add(1);
        self.since = self.since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy =
        BreakerPolicy { failure_threshold: 5, reset_timeout: Duration::from_mins(1) };

    fn opens_at(verdicts: impl IntoIterator<Item = Verdict>, policy: &BreakerPolicy) -> Option<usize> {
        let mut tally = Tally::default();
        verdicts.into_iter().position(|verdict| tally.opens_with(verdict, policy))
    }

    #[test]
    fn failures_in_a_row_open_it_and_what_says_nothing_is_none() {
        use Verdict::{Answers, Fails, Nothing, Works};
        assert_eq!(opens_at([Fails; 5], &POLICY), Some(4));
        assert_eq!(opens_at([Fails, Fails, Fails, Fails, Works, Fails, Fails, Fails, Fails], &POLICY), None);
        assert_eq!(opens_at([Fails, Answers, Fails, Nothing, Fails, Fails, Fails], &POLICY), Some(6));
        assert_eq!(opens_at([Answers; 100], &POLICY), None);
        let tolerant = BreakerPolicy { failure_threshold: 30, ..POLICY };
        assert_eq!(opens_at([Fails; 100], &tolerant), Some(29));
    }

    #[test]
    fn half_of_the_last_twenty_open_it() {
        let alternating = (0..40).map(|n| if n % 2 == 0 { Verdict::Fails } else { Verdict::Works });
        assert_eq!(opens_at(alternating, &POLICY), Some(18));
        let third = (0..300).map(|n| if n % 3 == 0 { Verdict::Fails } else { Verdict::Works });
        assert_eq!(opens_at(third, &POLICY), None);
    }

    #[test]
    fn endings_say_what_they_say() {
        use ErrorClass as E;
        for (ending, verdict) in [
            (Ending::Succeeded, Verdict::Works),
            (Ending::Answered(E::ServerError), Verdict::Fails),
            (Ending::Answered(E::Overloaded), Verdict::Fails),
            (Ending::Answered(E::RateLimited), Verdict::Answers),
            (Ending::Answered(E::InvalidRequest), Verdict::Answers),
            (Ending::Answered(E::Unauthorized), Verdict::Answers),
            (Ending::Unknown(E::Stalled), Verdict::Fails),
            (Ending::Unknown(E::Cancelled), Verdict::Nothing),
            (Ending::NotSent(E::NotSent), Verdict::Fails),
            (Ending::NotSent(E::Cancelled), Verdict::Nothing),
            (Ending::NotSent(E::InvalidRequest), Verdict::Nothing),
            (Ending::Crashed(E::Poison), Verdict::Nothing),
        ] {
            assert_eq!(Verdict::of(ending), verdict, "{ending:?}");
        }
    }

    #[test]
    fn silence_counts_while_calls_wait_and_is_forgiven_longer_each_time() {
        let s = Duration::from_secs;
        let mut silence = Silence::default();
        assert!(!silence.asks_for_probe(s(100), None), "nobody waits");
        silence.begun(s(100));
        silence.begun(s(101));
        assert!(!silence.asks_for_probe(s(101), None));
        assert!(silence.asks_for_probe(s(102), None));
        assert!(!silence.asks_for_probe(s(102), Some(s(5))), "its calls take long");
        silence.forgive(s(102));
        assert!(!silence.asks_for_probe(s(105), None));
        assert!(silence.asks_for_probe(s(106), None));
        silence.ended(s(107), true);
        assert!(silence.asks_for_probe(s(109), None), "the other one still waits");
        silence.ended(s(109), false);
        assert!(!silence.asks_for_probe(s(900), None));
    }

    proptest! {
        /// A breaker that never forgets more than it says: it opens exactly where a plain reading of the rule does.
        #[test]
        fn it_opens_where_the_rule_says(
            calls in prop::collection::vec(any::<bool>(), 0..200),
            failure_threshold in 1_u32..12,
        ) {
            let policy = BreakerPolicy { failure_threshold, ..POLICY };
            let (mut tally, mut since_open) = (Tally::default(), Vec::new());
            for is_failure in calls {
                let verdict = if is_failure { Verdict::Fails } else { Verdict::Works };
                since_open.push(is_failure);
                let in_a_row = since_open.iter().rev().take_while(|failed| **failed).count() as u32;
                let of_last: Vec<_> = since_open.iter().rev().take(20).collect();
                let failures = of_last.iter().filter(|failed| ***failed).count() as u32;
                let by_share = failures >= 10 && failures != in_a_row.min(20);
                let expected = in_a_row >= failure_threshold || by_share;
                prop_assert_eq!(tally.opens_with(verdict, &policy), expected);
                if expected {
                    since_open.clear();
                }
            }
        }

        /// Whatever probes say, trials are bounded: at most three in the first reset timeout after it opened, at most two in
        /// any later one (one, and one at its edge).
        #[test]
        fn trials_are_few_under_total_failure(reset_s in 1_u64..600, step_ms in 10_u64..2_000) {
            let policy = BreakerPolicy { reset_timeout: Duration::from_secs(reset_s), ..POLICY };
            let (mut trials, mut now, step) = (Vec::new(), Duration::ZERO, Duration::from_millis(step_ms));
            let (mut trial_at, mut probes_from) = (policy.reset_timeout, Duration::ZERO);
            while now < policy.reset_timeout * 5 {
                // Probes are always good, each trial fails at once.
                if now >= trial_at || now >= probes_from {
                    trials.push(now);
                    trial_at = now + policy.reset_timeout;
                    probes_from = now + policy.probes_distrusted_for(trials.len() as u32);
                }
                now += step;
            }
            for window in 0..5 {
                let (from, to) = (policy.reset_timeout * window, policy.reset_timeout * (window + 1));
                let count = trials.iter().filter(|at| (from..to).contains(at)).count();
                prop_assert!(count <= if window == 0 { 3 } else { 2 }, "{} in window {}", count, window);
            }
        }
    }
}
