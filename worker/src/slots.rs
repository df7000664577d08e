//! Slots for calls, and the leases that wait for one.
//!
//! A slot is taken from the start of a call to its end; writing the outcome needs none. A few leases are fetched ahead,
//! so that a slot which falls free is taken at once: as many as calls ended within a quarter of a second lately, and
//! at most half of the slots. With long calls that is none: a job that waits here could start elsewhere.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::lease::Lease;

/// Over this time ends are counted.
const PACE_WINDOW: Duration = Duration::from_millis(250);
/// A lease that was fetched ahead and waits longer than this could run elsewhere.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    concurrency: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Lease>,
    busy: usize,
    pace: Pace,
}

impl Slots {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), state: Mutex::default(), freed: Notify::new() }
    }

    /// How many leases are wanted now. With slots free: what fills them and the fetch ahead. With none: nothing until
    /// half of what was fetched ahead is used up, so that leases come in groups.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted_in(&mut self.lock(), Instant::now())
    }

    fn wanted_in(&self, state: &mut State, now: Instant) -> usize {
        let ahead = state.pace.ends_lately(now).min(self.concurrency.div_ceil(2));
        let free = self.concurrency.saturating_sub(state.busy);
        let has_enough = state.waiting.len() >= free && (state.waiting.len() - free) * 2 >= ahead;
        if has_enough { 0 } else { (free + ahead).saturating_sub(state.waiting.len()) }
    }

    /// Puts leases behind those that wait.
    pub(crate) fn push(&self, leases: impl IntoIterator<Item = Lease>) {
        self.lock().waiting.extend(leases);
    }

    /// Takes slots for leases that wait, the first come first.
    pub(crate) fn take_startable(&self) -> Vec<Lease> {
        let mut state = self.lock();
        let free = self.concurrency.saturating_sub(state.busy);
        let count = free.min(state.waiting.len());
        state.busy += count;
        state.waiting.drain(..count).collect()
    }

    /// Takes all leases that wait, to give them back.
    pub(crate) fn take_waiting(&self) -> Vec<Lease> {
        self.lock().waiting.drain(..).collect()
    }

    /// Takes the leases that have waited for too long, to give them back.
    pub(crate) fn take_overdue(&self) -> Vec<Lease> {
        let mut state = self.lock();
        let is_overdue = |lease: &Lease| lease.age() > MAX_WAIT || lease.wastes_allowance();
        // Those with an allowance are young, and may stand behind others.
        let (overdue, waiting) = std::mem::take(&mut state.waiting).into_iter().partition(is_overdue);
        state.waiting = waiting;
        Vec::from(overdue)
    }

    /// Slots for which no lease waits.
    pub(crate) fn free(&self) -> usize {
        let state = self.lock();
        self.concurrency.saturating_sub(state.busy + state.waiting.len())
    }

    /// A call has ended. The lease loop is woken only where that makes more leases wanted: with many short calls, a
    /// look for each would cost more than the leases.
    pub(crate) fn release(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.busy -= 1;
        state.pace.note_end(now);
        let is_more_wanted = self.wanted_in(&mut state, now) > 0;
        drop(state);
        if is_more_wanted {
            self.freed.notify_one();
        }
    }

    /// How many slots are taken.
    pub(crate) fn busy(&self) -> usize {
        self.lock().busy
    }

    /// How many leases wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Comes back when a slot was freed since the last time, and more leases are wanted.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many calls ended in the last full window.
#[derive(Debug, Default)]
struct Pace {
    window_began: Option<Instant>,
    in_window: usize,
    in_last_window: usize,
}

impl Pace {
    fn note_end(&mut self, now: Instant) {
        self.turn(now);
        self.in_window += 1;
    }

    fn ends_lately(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.in_window.max(self.in_last_window)
    }

    fn turn(&mut self, now: Instant) {
        let Some(began) = self.window_began else {
            self.window_began = Some(now);
            return;
        };
        let age = now.saturating_duration_since(began);
        if age >= PACE_WINDOW {
            let is_next = age < 2 * PACE_WINDOW;
            self.in_last_window = if is_next { self.in_window } else { 0 };
            self.in_window = 0;
            self.window_began = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fetched_ahead_while_calls_are_long() {
        let slots = Slots::new(100);
        assert_eq!(slots.wanted(), 100);
        slots.lock().busy = 100;
        assert_eq!(slots.wanted(), 0);
        slots.release();
        slots.lock().busy = 100;
        assert_eq!(slots.wanted(), 1);
    }

    #[test]
    fn at_most_half_is_fetched_ahead() {
        let slots = Slots::new(100);
        slots.lock().busy = 1_000;
        for _ in 0..900 {
            slots.release();
        }
        assert_eq!(slots.lock().busy, 100);
        assert_eq!(slots.wanted(), 50);
    }

    #[test]
    fn ends_of_long_ago_do_not_count() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        for _ in 0..10 {
            pace.note_end(begun);
        }
        assert_eq!(pace.ends_lately(begun + PACE_WINDOW), 10);
        assert_eq!(pace.ends_lately(begun + 4 * PACE_WINDOW), 0);
    }
}
