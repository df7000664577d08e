//! Single steps, and a provider with a limit that nobody is told: how much of it is used, and how soon a change is found.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const WIDE: Bounds = Bounds { floor: 1, ceiling: 100_000 };
const ONE: Sample = Sample { refused: 1, accepted: 100 };

fn belief(cap: u64, refused_at: Option<u64>) -> Belief {
    Belief { cap, refused_at, raises: 0, falls: 0, because: Because::Raised }
}

#[test]
fn it_doubles_until_something_is_refused() {
    let mut known = Belief::first(WIDE);
    let mut caps = vec![known.cap];
    for _ in 0..4 {
        known = known.raised(WIDE).unwrap();
        caps.push(known.cap);
    }
    assert_eq!(caps, [8, 16, 32, 64, 128]);
}

#[test]
fn it_falls_little_at_first_and_more_with_each_refusal_after_it() {
    let first = belief(1_000, None).refused(ONE, WIDE);
    assert_eq!((first.cap, first.refused_at, first.because), (980, Some(1_000), Because::Refused));
    let second = first.refused(ONE, WIDE);
    assert_eq!((second.cap, second.refused_at), (940, Some(980)));
    let tenth = (0..8).fold(second, |known, _| known.refused(ONE, WIDE));
    assert!((200..300).contains(&tenth.cap), "{tenth:?}");
}

#[test]
fn it_falls_to_what_was_accepted_of_a_sample_but_not_below_half() {
    let half_refused = Sample { refused: 50, accepted: 50 };
    let half = belief(998, None).refused(half_refused, WIDE);
    assert_eq!(
        (half.cap, half.refused_at),
        (499, Some(509)),
        "there is nothing to be looked for half way back"
    );
    let all_refused = Sample { refused: 50, accepted: 0 };
    assert_eq!(belief(998, None).refused(all_refused, WIDE).cap, 499);
    let too_few = Sample { refused: 3, accepted: 0 };
    assert_eq!(belief(100, None).refused(too_few, WIDE).cap, 98);
}

#[test]
fn after_a_fall_it_rests_goes_half_way_back_and_then_probes_past() {
    let fallen = belief(500, None).refused(ONE, WIDE).refused(ONE, WIDE);
    assert_eq!((fallen.cap, fallen.rest()), (470, REST_AFTER_FALL));
    let mut known = fallen;
    let mut caps = Vec::new();
    for _ in 0..12 {
        known = known.raised(WIDE).unwrap();
        caps.push(known.cap);
    }
    assert_eq!(caps[0], 480);
    assert_eq!(known.rest(), REST_AFTER_RAISE);
    assert!(caps.windows(2).all(|pair| pair[1] > pair[0]), "{caps:?}");
    assert!(caps[11] > 2_000, "it is found soon that a limit has risen: {caps:?}");
}

#[test]
fn it_stays_within_its_bounds() {
    let narrow = Bounds { floor: 4, ceiling: 20 };
    assert_eq!(belief(15, None).raised(narrow).unwrap().cap, 20);
    assert_eq!(belief(20, None).raised(narrow), None);
    assert_eq!(belief(4, None).refused(ONE, narrow).cap, 4);
    assert_eq!(belief(4, None).slowed(narrow), None);
    assert_eq!(Belief::first(Bounds { floor: 1, ceiling: 3 }).cap, 3);
    assert_eq!(Belief::first(Bounds { floor: 50, ceiling: 90 }).cap, 50);
}

#[test]
fn words_are_read_back() {
    for because in Because::ALL {
        assert_eq!(Because::of_word(because.as_str()), because);
    }
}

#[test]
fn answers_that_take_twice_as_long_are_slow_until_they_are_usual() {
    let mut latency = Latency::default();
    for n in 0..200_u64 {
        latency.note(Duration::from_millis(500 + n % 7 * 100));
    }
    assert!(!latency.is_slow() && !latency.is_slowish());
    let mut falls = 0;
    for _ in 0..5_000 {
        latency.note(Duration::from_secs(4));
        if latency.is_slow() {
            latency.heeded();
            falls += 1;
        }
    }
    assert!((1..20).contains(&falls), "{falls}");
    assert!(!latency.is_slow() && !latency.is_slowish());
}

/// A provider that takes so many calls at once, each for so many ticks of 10 ms, and a worker with work without end that
/// believes.
struct Trial {
    limit: u64,
    ticks_of_a_call: usize,
    belief: Belief,
    changed_at: usize,
    /// How many calls end in each of the next ticks.
    ends: VecDeque<u64>,
    running: u64,
    now: usize,
}

/// What came of some seconds.
#[derive(Default, Debug)]
struct Seen {
    used: f64,
    calls: u64,
    refused: u64,
}

impl Trial {
    fn new(limit: u64, ticks_of_a_call: usize) -> Self {
        let belief = Belief::first(WIDE);
        let ends = VecDeque::from(vec![0; ticks_of_a_call]);
        Self { limit, ticks_of_a_call, belief, changed_at: 0, ends, running: 0, now: 0 }
    }

    fn run(&mut self, seconds: usize) -> Seen {
        let mut seen = Seen::default();
        for _ in 0..seconds * 100 {
            self.tick(&mut seen);
        }
        seen.used /= (self.limit * seconds as u64 * 100) as f64;
        seen
    }

    /// Refused calls are known within the tick, and the belief changes at its end.
    fn tick(&mut self, seen: &mut Seen) {
        self.now += 1;
        self.running -= self.ends.pop_front().unwrap_or(0);
        let asked = self.belief.cap.saturating_sub(self.running);
        let taken = asked.min(self.limit.saturating_sub(self.running));
        self.running += taken;
        // Spread, as calls of different lengths are.
        self.ends.push_back(0);
        for n in 0..taken as usize {
            let at = self.ticks_of_a_call / 2 + (self.now * 31 + n * 17) % (self.ticks_of_a_call / 2);
            self.ends[at] += 1;
        }
        seen.used += self.running as f64;
        seen.calls += asked;
        seen.refused += asked - taken;
        let rest = self.belief.rest().as_millis() as usize / 10;
        let sample = Sample { refused: (asked - taken) as u32, accepted: self.running as u32 };
        let next = if asked > taken {
            Some(self.belief.refused(sample, WIDE))
        } else {
            self.belief.raised(WIDE).filter(|_| self.now >= self.changed_at + rest)
        };
        if let Some(next) = next {
            (self.belief, self.changed_at) = (next, self.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever the limit and however it changes, within ten seconds nearly all of it is used, and hardly anything is refused.
    #[test]
    fn a_limit_is_found_and_found_again_within_ten_seconds(
        limit in 100_u64..1_500, times in prop::sample::select(vec![0.25, 0.5, 0.8, 1.5, 2.0, 4.0]),
        ticks_of_a_call in 40_usize..200,
    ) {
        let mut trial = Trial::new(limit, ticks_of_a_call);
        trial.run(10);
        for _ in 0..2 {
            let seen = trial.run(30);
            prop_assert!(seen.used >= 0.95, "{:?} of {}", seen, trial.limit);
            // Of a limit of a few calls a probe is a larger part.
            prop_assert!(seen.refused as f64 <= seen.calls as f64 * 0.01 + 15.0, "{:?} of {}", seen, trial.limit);
            trial.limit = (limit as f64 * times) as u64;
            trial.run(10);
        }
    }

    /// It never leaves its bounds, and never asks for nothing.
    #[test]
    fn any_history_stays_within_the_bounds(
        floor in 1_u64..50, more in 0_u64..5_000,
        acts in prop::collection::vec((0_u8..3, 0_u32..200, 0_u32..200), 0..200),
    ) {
        let bounds = Bounds { floor, ceiling: floor + more };
        let mut known = Belief::first(bounds);
        for (act, refused, accepted) in acts {
            known = match act {
                0 => known.raised(bounds).unwrap_or(known),
                1 => known.refused(Sample { refused, accepted }, bounds),
                _ => known.slowed(bounds).unwrap_or(known),
            };
            prop_assert!((bounds.floor..=bounds.ceiling).contains(&known.cap), "{:?}", known);
        }
    }
}
