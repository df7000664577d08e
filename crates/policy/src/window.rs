//! Windows of requests and tokens: what the books of a limit must come to, as pure code.
//!
//! The books themselves are kept by statements (`sluice.lease_limited`, `sluice.limits_open`), since they are taken of under
//! the database's locks. This is the same rule once more, small enough to be proved by random histories, and what those
//! statements are compared with (`tests/models/windows.rs`).
//!
//! A provider counts a call when it arrives, and we count it when it is leased, up to [`MARGIN`] earlier. So what is taken
//! within a slice counts from the slice's beginning to its end, plus the window, plus that margin: then any window of the
//! provider lies within one of ours. A bucket with a burst was turned down: it lets twice its size through in one window.

use std::{collections::BTreeMap, time::Duration};

/// The longest time from a lease to the arrival of its call.
pub const MARGIN: Duration = Duration::from_millis(500);
/// A slice is so long, or a twentieth of the window where that is less.
const LONGEST_SLICE: Duration = Duration::from_millis(250);
const LEAST_SLICES: u32 = 20;

/// What was taken of one limit. Times are on one clock that may begin anywhere; slices begin at whole multiples of their
/// length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    cap: u64,
    length: Duration,
    /// By the beginnings of the slices.
    slices: BTreeMap<Duration, i64>,
}

impl Window {
    /// An empty one: so much at most, within any stretch of time that is so long.
    pub const fn new(cap: u64, length: Duration) -> Self {
        Self { cap, length, slices: BTreeMap::new() }
    }

    /// Spent and reserved at `now`, after what has fallen out.
    pub fn used(&mut self, now: Duration) -> i64 {
        if let Some(from) = self.falling_to(now) {
            self.slices.retain(|at, _| *at >= from);
        }
        self.slices.values().sum()
    }

    /// How much may be taken at `now`.
    pub fn room(&mut self, now: Duration) -> u64 {
        let used = self.used(now);
        u64::try_from(i64::try_from(self.cap).unwrap_or(i64::MAX).saturating_sub(used)).unwrap_or(0)
    }

    /// Takes; the caller has seen that there is room.
    pub fn take(&mut self, amount: u64, now: Duration) {
        *self.slices.entry(self.slice_of(now)).or_default() += i64::try_from(amount).unwrap_or(i64::MAX);
    }

    /// What was taken at `taken_at` turns out to be another amount. What has fallen out by `now` stays as it was.
    pub fn correct(&mut self, by: i64, taken_at: Duration, now: Duration) {
        let slice = self.slice_of(taken_at);
        if self.falling_to(now).is_none_or(|from| slice >= from)
            && let Some(amount) = self.slices.get_mut(&slice)
        {
            *amount += by;
        }
    }

    fn falling_to(&self, now: Duration) -> Option<Duration> {
        now.checked_sub(self.length + self.slice() + MARGIN)
    }

    fn slice(&self) -> Duration {
        LONGEST_SLICE.min(self.length / LEAST_SLICES)
    }

    fn slice_of(&self, at: Duration) -> Duration {
        let slice = self.slice().as_micros().max(1);
        Duration::from_micros(u64::try_from(at.as_micros() / slice * slice).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_taken_counts_for_the_window_a_slice_and_the_margin() {
        let mut window = Window::new(10, Duration::from_mins(1));
        window.take(7, ms(1_100));
        assert_eq!((window.room(ms(1_100)), window.used(ms(61_750))), (3, 7));
        assert_eq!(window.room(ms(61_751)), 10);
    }

    #[test]
    fn a_correction_changes_its_slice_until_that_has_fallen_out() {
        let mut window = Window::new(100, Duration::from_secs(1));
        window.take(40, ms(1_000));
        window.correct(-30, ms(1_000), ms(1_200));
        assert_eq!(window.used(ms(1_200)), 10);
        window.correct(-10, ms(1_000), ms(9_000));
        assert_eq!(window.used(ms(9_000)), 0);
    }

    /// A call: when it was leased, how long it took to arrive and to be answered, and what it was taken for and used.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        rest_ms: u64,
        arrives_ms: u64,
        answers_ms: u64,
        estimate: u64,
        truth: u64,
        has_usage: bool,
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let call = (0_u64..400, 0_u64..=500, 0_u64..3_000, 1_u64..60, 0_u64..60, any::<bool>());
        let call = call.prop_map(|(rest_ms, arrives_ms, answers_ms, estimate, truth, has_usage)| {
            // An estimate is never too low: the provider charges prompt and `max_tokens` at the arrival, too.
            Call { rest_ms, arrives_ms, answers_ms, estimate, truth: truth.min(estimate), has_usage }
        });
        prop::collection::vec(call, 1..120)
    }

    proptest! {
        /// Whatever is leased, however long it is on its way, and however late it is settled or never: in no window that the
        /// provider could look at has more arrived than it allows.
        #[test]
        fn no_window_of_the_provider_sees_more_than_the_cap(
            calls in calls(), cap in 60_u64..400, length_ms in prop::sample::select(vec![1_000_u64, 2_000, 60_000]),
        ) {
            let mut window = Window::new(cap, ms(length_ms));
            let mut now = Duration::from_mins(10);
            // (when it is settled, when it was taken, by how much it is corrected)
            let mut unsettled: Vec<(Duration, Duration, i64)> = Vec::new();
            // (when it arrived, what it was charged, when that was corrected, to what)
            let mut arrived: Vec<(Duration, u64, Duration, u64)> = Vec::new();
            for call in calls {
                now += ms(call.rest_ms);
                unsettled.retain(|(at, taken_at, by)| {
                    let is_due = *at <= now;
                    if is_due {
                        window.correct(*by, *taken_at, *at);
                    }
                    !is_due
                });
                if window.room(now) < call.estimate {
                    continue;
                }
                window.take(call.estimate, now);
                let arrives = now + ms(call.arrives_ms);
                let answered = arrives + ms(call.answers_ms);
                let used = if call.has_usage { call.truth } else { call.estimate };
                // We hear of it after the provider has corrected its own books.
                unsettled.push((answered, now, used as i64 - call.estimate as i64));
                arrived.push((arrives, call.estimate, answered, used));
            }
            // The provider looks at each arrival, over the window that ends there.
            for (looked_at, ..) in &arrived {
                let charged: u64 = arrived
                    .iter()
                    .filter(|(at, ..)| at <= looked_at && *at + ms(length_ms) > *looked_at)
                    .map(|(_, estimate, answered, used)| if answered <= looked_at { *used } else { *estimate })
                    .sum();
                prop_assert!(charged <= cap, "{} of {}", charged, cap);
            }
        }

        /// Nothing is held for ever: a window and its margins after the last call all of it is there again.
        #[test]
        fn nothing_is_lost_for_ever(calls in calls(), cap in 60_u64..400) {
            let length = Duration::from_secs(1);
            let mut window = Window::new(cap, length);
            let mut now = Duration::from_mins(10);
            for call in calls {
                now += ms(call.rest_ms);
                if window.room(now) >= call.estimate {
                    window.take(call.estimate, now);
                }
            }
            prop_assert_eq!(window.room(now + length + MARGIN + LONGEST_SLICE + ms(1)), cap);
        }
    }
}
