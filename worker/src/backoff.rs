//! How long the worker's own tasks rest after the database refused them: doubling, with jitter, up to a cap.

use std::time::Duration;

use rand::RngExt;

/// The first rest.
const FIRST: Duration = Duration::from_millis(50);

/// Rests that grow from failure to failure.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    /// Grows up to `cap`.
    pub(crate) fn up_to(cap: Duration) -> Self {
        Self { next: FIRST.min(cap), cap }
    }

    /// How long to rest now.
    pub(crate) fn rest(&mut self) -> Duration {
        let rest = jittered(self.next);
        self.next = (self.next * 2).min(self.cap);
        rest
    }

    /// It worked: the next rest is the first one again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST.min(self.cap);
    }
}

/// `time`, a fifth more or less, so that workers that started together don't act together.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.8..1.2))
}
