//! How many calls at once a provider takes that does not say so: what is believed, and how each answer changes it.
//!
//! A belief is a cap on calls under way, shared by all workers. While it binds and nothing is refused, it is raised; a
//! refusal (429, 503) lowers it, and so do answers that take long. The plain rule of that kind, one more on success and half
//! on failure, uses three quarters of a limit. So it is modelled on the congestion controls that came later (BIC, CUBIC):
//!
//! - *At first* it doubles, until something is refused.
//! - *A fall* is small: a refusal means that the limit is just below. Further ones, of calls that were leased since, mean that
//!   it is not, and fall further; so does a sample in which much was refused, to what was accepted of it.
//! - *After a fall* it rests, then goes half way back to where it was refused, and then probes past that by a quarter of a
//!   per cent, then twice as much each time, up to half of itself. Near a limit that stays, probes cost few refusals; a limit
//!   that has quadrupled is found in less than ten seconds.
//!
//! Refusals of calls that were leased before the last fall say nothing new. Not here: who writes a belief down (`worker`,
//! `store`), and what an upstream says by `Retry-After` (`cooldown`).

use std::time::Duration;

/// What is believed before anything was tried.
const FIRST: u64 = 8;
/// What a fall keeps: the first, and those that follow it without a raise between.
const KEPT: [f64; 4] = [0.98, 0.96, 0.92, 0.85];
/// No sample lowers it by more.
const LEAST_KEPT: f64 = 0.5;
/// A sample says how much was accepted if so many were refused, of so many calls.
const LEAST_REFUSED: u32 = 4;
const LEAST_SAMPLE: u32 = 8;
/// What slow answers keep.
const KEPT_WHEN_SLOW: f64 = 0.9;
/// The first step past what was refused; each further one is twice as large.
const FIRST_STEP: f64 = 0.002_5;
/// No step is larger than half of the cap.
const LARGEST_STEP_PART: u64 = 2;
/// As near to what was refused there is no half way.
const NEAR: f64 = 0.02;
/// How long it rests after a fall, and between two raises. Refusals come within the latter, mostly.
const REST_AFTER_FALL: Duration = Duration::from_secs(3);
const REST_AFTER_RAISE: Duration = Duration::from_millis(400);

/// Between what a belief moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// At least so many at once.
    pub floor: u64,
    /// At most.
    pub ceiling: u64,
}

/// Why a belief is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Because {
    /// Nothing was tried yet.
    Begun,
    /// All of it was in use, and nothing was refused.
    Raised,
    /// The provider refused calls.
    Refused,
    /// Answers took much longer than usual.
    Slow,
}

/// How many calls at once a provider is believed to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Belief {
    /// So many.
    pub cap: u64,
    /// The cap under which calls were refused last.
    pub refused_at: Option<u64>,
    /// Raises past that in a row.
    pub raises: u32,
    /// Falls in a row.
    pub falls: u32,
    /// Why.
    pub because: Because,
}

/// What a worker saw of its own calls when some were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Calls that were refused.
    pub refused: u32,
    /// Calls that are under way.
    pub accepted: u32,
}

impl Because {
    const ALL: [Self; 4] = [Self::Begun, Self::Raised, Self::Refused, Self::Slow];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Raised => "raised",
            Self::Refused => "refused",
            Self::Slow => "slow",
        }
    }

    /// Of the stable word; one that is not known counts as `begun`.
    pub fn of_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|known| known.as_str() == word).unwrap_or(Self::Begun)
    }
}

impl Bounds {
    fn clamp(self, cap: u64) -> u64 {
        cap.min(self.ceiling).max(self.floor).max(1)
    }
}

impl Belief {
    /// What is believed before anything was tried.
    pub fn first(bounds: Bounds) -> Self {
        let cap = bounds.clamp(FIRST);
        Self { cap, refused_at: None, raises: 0, falls: 0, because: Because::Begun }
    }

    /// How long it rests before it is raised.
    pub const fn rest(&self) -> Duration {
        if self.falls > 0 { REST_AFTER_FALL } else { REST_AFTER_RAISE }
    }

    /// All of it was in use for a while, and nothing was refused. `None`: it can't be raised.
    pub fn raised(&self, bounds: Bounds) -> Option<Self> {
        let (cap, raises) = match self.refused_at {
            None => (self.cap.saturating_mul(2), self.raises.saturating_add(1)),
            Some(refused) if refused.saturating_sub(self.cap) > near(refused) => {
                (self.cap.midpoint(refused).max(self.cap + 1), 0)
            }
            Some(_) => (self.cap.saturating_add(self.step()), self.raises.saturating_add(1)),
        };
        let cap = bounds.clamp(cap);
        (cap > self.cap).then_some(Self { cap, raises, falls: 0, because: Because::Raised, ..*self })
    }

    /// Calls that were leased since the last fall were refused.
    #[must_use]
    pub fn refused(&self, sample: Sample, bounds: Bounds) -> Self {
        let Sample { refused, accepted } = sample;
        let by_row = KEPT[(self.falls as usize).min(KEPT.len() - 1)];
        let seen = refused.saturating_add(accepted);
        let kept = if refused >= LEAST_REFUSED && seen >= LEAST_SAMPLE {
            by_row.min((f64::from(accepted) / f64::from(seen)).max(LEAST_KEPT))
        } else {
            by_row
        };
        let next = self.lowered(kept, Because::Refused, bounds);
        // A sample says where the limit is, and not only that it is below: what was tried is of no use any more.
        let refused_at = if kept < by_row { next.cap.saturating_add(near(next.cap)) } else { self.cap };
        Self { refused_at: Some(refused_at), falls: self.falls.saturating_add(1), ..next }
    }

    /// Answers take much longer than usual. `None`: it can't be lowered.
    pub fn slowed(&self, bounds: Bounds) -> Option<Self> {
        let next = self.lowered(KEPT_WHEN_SLOW, Because::Slow, bounds);
        (next.cap < self.cap).then_some(Self { refused_at: Some(self.cap), falls: 1, ..next })
    }

    fn lowered(&self, kept: f64, because: Because, bounds: Bounds) -> Self {
        let cap = ((self.cap as f64 * kept) as u64).min(self.cap.saturating_sub(1));
        Self { cap: bounds.clamp(cap), raises: 0, because, ..*self }
    }

    /// How far it goes past what was refused.
    fn step(&self) -> u64 {
        let part = FIRST_STEP * f64::from(1_u32 << self.raises.min(8));
        let step = (self.cap as f64 * part).ceil() as u64;
        step.max(u64::from(self.raises) + 1).min((self.cap / LARGEST_STEP_PART).max(1))
    }
}

fn near(refused: u64) -> u64 {
    ((refused as f64 * NEAR).ceil() as u64).max(1)
}

/// How long answers took lately, against how long they usually take: by their logarithms, so that a few long ones among
/// many short ones mean little.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Latency {
    usual: f64,
    recent: f64,
    answers: u32,
    since_slow: u32,
}

/// Of the answers that came, each counts for so much of what is recent, and of what is usual.
const RECENT_PART: f64 = 1.0 / 16.0;
const USUAL_PART: f64 = 1.0 / 512.0;
/// Before so many answers nothing is usual; and so many come between two falls for slowness.
const LEAST_ANSWERS: u32 = 64;
const BETWEEN_FALLS: u32 = 32;
/// So many times as long as usual is slow; from so many times on nothing is raised.
const SLOW: f64 = 2.0;
const SLOWISH: f64 = 1.5;

impl Latency {
    /// An answer took so long.
    pub fn note(&mut self, took: Duration) {
        let value = took.as_secs_f64().max(0.000_1).ln();
        self.answers = self.answers.saturating_add(1);
        self.since_slow = self.since_slow.saturating_add(1);
        let first_part = 1.0 / f64::from(self.answers);
        self.usual += (value - self.usual) * USUAL_PART.max(first_part);
        self.recent += (value - self.recent) * RECENT_PART.max(first_part);
    }

    /// Whether answers take so much longer than usual that fewer should be under way.
    pub fn is_slow(&self) -> bool {
        self.answers >= LEAST_ANSWERS && self.since_slow >= BETWEEN_FALLS && self.is_above(SLOW)
    }

    /// Whether they take so much longer that no more should be under way.
    pub fn is_slowish(&self) -> bool {
        self.answers >= LEAST_ANSWERS && self.is_above(SLOWISH)
    }

    /// A fall has answered the slowness. What is slow for long is usual in the end, so that work which takes longer than
    /// earlier work does not keep a cap low for ever.
    pub fn heeded(&mut self) {
        self.since_slow = 0;
    }

    fn is_above(&self, times: f64) -> bool {
        self.recent - self.usual > times.ln()
    }
}

#[cfg(test)]
#[path = "aimd_tests.rs"]
mod tests;
