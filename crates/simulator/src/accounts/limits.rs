//! Strict sliding windows: in no stretch of time as long as the window is more let through than the limit. Pure; the
//! clock is a parameter.
//!
//! A token bucket was turned down: it lets up to twice its limit through in one window, and what this stands in for
//! is the worst a provider may do.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::config::Limits;

/// Why a call is not admitted, and when it might be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Too many calls are under way.
    Concurrency { limit: u32 },
    /// Too many calls in the window.
    Requests { limit: u32, retry_after: Duration, remaining: Remaining },
    /// Too many tokens in the window. `retry_after` is `None` where the call alone is too large.
    Tokens { limit: u64, used: u64, asked: u64, retry_after: Option<Duration>, remaining: Remaining },
}

/// What a window still has, for the `x-ratelimit-*` headers: (limit, remaining, time until it is full again).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Remaining {
    pub(crate) requests: Option<(u64, u64, Duration)>,
    pub(crate) tokens: Option<(u64, u64, Duration)>,
}

/// Names the entry of an admitted call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Charge(u64);

/// Calls under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LimitState {
    pub(crate) running: u32,
    pub(crate) max_running_seen: u32,
}

#[derive(Debug)]
struct Entry {
    charge: Charge,
    at: Instant,
    tokens: u64,
}

/// The calls of one account and model: those under way and those in the window.
#[derive(Debug, Default)]
pub(crate) struct ModelWindow {
    running: u32,
    max_running_seen: u32,
    entries: VecDeque<Entry>,
    tokens: u64,
    next_charge: u64,
}

impl ModelWindow {
    pub(crate) fn admit(
        &mut self,
        limits: &Limits,
        tokens: u64,
        now: Instant,
    ) -> Result<(Charge, Remaining), Refusal> {
        let window = Duration::from_millis(limits.window_ms);
        self.forget_before(now, window);
        self.check(limits, tokens, now, window)?;
        self.running += 1;
        self.max_running_seen = self.max_running_seen.max(self.running);
        let charge = Charge(self.next_charge);
        self.next_charge += 1;
        if limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some() {
            self.entries.push_back(Entry { charge, at: now, tokens });
            self.tokens += tokens;
        }
        Ok((charge, self.remaining(limits, now, window)))
    }

    fn check(&self, limits: &Limits, tokens: u64, now: Instant, window: Duration) -> Result<(), Refusal> {
        if let Some(limit) = limits.concurrency.filter(|limit| self.running >= *limit) {
            return Err(Refusal::Concurrency { limit });
        }
        let remaining = self.remaining(limits, now, window);
        if let Some(limit) = limits.requests_per_minute.filter(|limit| self.entries.len() >= *limit as usize)
        {
            let must_leave = self.entries.len() + 1 - limit as usize;
            let freed =
                self.entries.get(must_leave.saturating_sub(1)).map_or(window, |e| until(e, now, window));
            return Err(Refusal::Requests { limit, retry_after: freed, remaining });
        }
        match limits.tokens_per_minute {
            Some(limit) if self.tokens.saturating_add(tokens) > limit => {
                let retry_after = self.until_room_for(tokens, limit, now, window);
                Err(Refusal::Tokens { limit, used: self.tokens, asked: tokens, retry_after, remaining })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn leave(&mut self, charge: Charge, tokens: u64, window: Duration, now: Instant) {
        self.running = self.running.saturating_sub(1);
        if let Ok(at) = self.entries.binary_search_by_key(&charge.0, |entry| entry.charge.0) {
            let entry = &mut self.entries[at];
            self.tokens = self.tokens - entry.tokens + tokens;
            entry.tokens = tokens;
        }
        self.forget_before(now, window);
    }

    pub(crate) fn state(&self) -> LimitState {
        LimitState { running: self.running, max_running_seen: self.max_running_seen }
    }

    fn forget_before(&mut self, now: Instant, window: Duration) {
        while let Some(entry) = self.entries.front().filter(|e| now.saturating_duration_since(e.at) >= window)
        {
            self.tokens -= entry.tokens;
            self.entries.pop_front();
        }
    }

    /// How long until the oldest entries have left that stand in the way of `tokens` more.
    fn until_room_for(&self, tokens: u64, limit: u64, now: Instant, window: Duration) -> Option<Duration> {
        if tokens > limit {
            return None;
        }
        let mut used = self.tokens;
        for entry in &self.entries {
            used -= entry.tokens;
            if used + tokens <= limit {
                return Some(until(entry, now, window));
            }
        }
        None
    }

    fn remaining(&self, limits: &Limits, now: Instant, window: Duration) -> Remaining {
        let full_in = self.entries.back().map_or(Duration::ZERO, |entry| until(entry, now, window));
        let left = |limit: u64, used: u64| (limit, limit.saturating_sub(used), full_in);
        Remaining {
            requests: limits.requests_per_minute.map(|limit| left(limit.into(), self.entries.len() as u64)),
            tokens: limits.tokens_per_minute.map(|limit| left(limit, self.tokens)),
        }
    }
}

/// How long until an entry leaves the window.
fn until(entry: &Entry, now: Instant, window: Duration) -> Duration {
    (entry.at + window).saturating_duration_since(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    fn limits(concurrency: Option<u32>, requests: Option<u32>, tokens: Option<u64>) -> Limits {
        Limits {
            concurrency,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            window_ms: 1_000,
            ..Limits::default()
        }
    }

    #[test]
    fn no_window_ever_lets_more_than_the_limit_through() {
        let limits = limits(None, Some(7), Some(500));
        let start = Instant::now();
        let mut random = SplitMix::from_parts(&[5]);
        let mut window = ModelWindow::default();
        let (mut ms, mut admitted) = (0, Vec::new());
        for _ in 0..5_000 {
            ms += random.next_in(0, 60);
            let tokens = random.next_in(1, 120);
            if let Ok((charge, _)) = window.admit(&limits, tokens, start + Duration::from_millis(ms)) {
                admitted.push((ms, tokens));
                window.leave(charge, tokens, Duration::from_secs(1), start + Duration::from_millis(ms));
            }
        }
        assert!(admitted.len() > 500);
        for (at, (begin, _)) in admitted.iter().enumerate() {
            let inside = admitted[at..].iter().take_while(|(ms, _)| ms - begin < 1_000);
            let (count, tokens) = inside.fold((0, 0), |(count, sum), (_, tokens)| (count + 1, sum + tokens));
            assert!(count <= 7 && tokens <= 500, "{count} calls and {tokens} tokens from {begin} ms");
        }
    }

    #[test]
    fn the_time_told_is_exactly_when_there_is_room() {
        let limits = limits(None, Some(2), Some(100));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = ModelWindow::default();
        window.admit(&limits, 60, at(0)).unwrap();
        window.admit(&limits, 30, at(400)).unwrap();
        let Err(Refusal::Requests { retry_after, .. }) = window.admit(&limits, 1, at(500)) else { panic!() };
        assert_eq!(retry_after, Duration::from_millis(500));
        assert!(window.admit(&limits, 80, at(999)).is_err());
        let Err(Refusal::Tokens { retry_after, used, .. }) = window.admit(&limits, 80, at(1_000)) else {
            panic!()
        };
        assert_eq!((retry_after, used), (Some(Duration::from_millis(400)), 30));
        window.admit(&limits, 80, at(1_400)).unwrap();
        let Err(Refusal::Tokens { retry_after: None, .. }) = window.admit(&limits, 101, at(1_500)) else {
            panic!()
        };
    }

    #[test]
    fn true_tokens_replace_the_estimate() {
        let limits = limits(None, None, Some(100));
        let now = Instant::now();
        let mut window = ModelWindow::default();
        let (charge, _) = window.admit(&limits, 90, now).unwrap();
        assert!(window.admit(&limits, 20, now).is_err());
        window.leave(charge, 10, Duration::from_secs(1), now);
        assert_eq!(window.admit(&limits, 20, now).unwrap().1.tokens.unwrap().1, 70);
    }

    #[test]
    fn a_slot_is_free_again_when_its_call_ends() {
        let limits = limits(Some(1), None, None);
        let now = Instant::now();
        let mut window = ModelWindow::default();
        let (charge, _) = window.admit(&limits, 1, now).unwrap();
        assert_eq!(window.admit(&limits, 1, now).unwrap_err(), Refusal::Concurrency { limit: 1 });
        window.leave(charge, 1, Duration::from_secs(1), now);
        window.admit(&limits, 1, now).unwrap();
        assert_eq!(window.state(), LimitState { running: 1, max_running_seen: 1 });
    }
}
