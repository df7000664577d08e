//! Limits that the provider does not tell, as this worker knows them: what all workers believe, and what its own calls say
//! about that. A belief is in the database, where leases keep to it; what is known here decides when to write the next one.
//!
//! Not here: how a belief changes (`policy::aimd`), and who writes it (`adaptive_keeper`).

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sluice_domain::LimitId;
use sluice_policy::{
    aimd::{Because, Belief, Bounds, Latency, Sample},
    cooldown::is_refusal,
};
use sluice_provider::CallReport;
use sluice_store::StoredBelief;
use tokio::{sync::Notify, time::Instant};

/// After the first refusal others are waited for: together they say how much was too much.
const GATHERED_WITHIN: Duration = Duration::from_millis(15);
/// A belief that could not be written, or was of a limit that the database does not know, is tried again after so long, then
/// after twice as long each time, up to the last.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(100);
const LAST_TRIED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// A belief is raised so long after the last of it was taken: calls that are refused are refused by then, mostly.
const REFUSED_WITHIN: Duration = Duration::from_millis(300);
/// Between two falls for slowness.
const BETWEEN_SLOW_FALLS: Duration = Duration::from_secs(1);
/// Refusals beyond so many say no more.
const MOST_REFUSALS: usize = 4_096;

/// All limits that are found out by trying.
#[derive(Debug, Default)]
pub(crate) struct Adaptive {
    has_any: AtomicBool,
    limits: Mutex<HashMap<LimitId, Known>>,
    /// There may be a belief to write.
    pub(crate) stirred: Notify,
}

#[derive(Debug)]
struct Known {
    bounds: Bounds,
    /// With its version; `None` until the database was asked.
    belief: Option<(i64, Belief)>,
    changed_at: Instant,
    /// Refusals of calls that were leased before say nothing new.
    lowered_at: Option<Instant>,
    /// When a lease took the last of it, first since the belief changed.
    full_at: Option<Instant>,
    /// When the refused calls were leased, and when the first of them was refused.
    refused: Vec<Instant>,
    refused_at: Option<Instant>,
    latency: Latency,
    under_way: u32,
    /// What could not be written is not tried again before then; so often in a row.
    tried_again_at: Option<Instant>,
    failed: u32,
}

/// A belief to be written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Move {
    pub(crate) limit: LimitId,
    pub(crate) seen: i64,
    pub(crate) belief: Belief,
}

/// A call that is under way counts until this is dropped.
pub(crate) struct UnderWay<'a> {
    adaptive: &'a Adaptive,
    limits: Vec<LimitId>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.limits.is_empty() {
            return;
        }
        let mut known = self.adaptive.lock();
        for limit in &self.limits {
            if let Some(known) = known.get_mut(limit) {
                known.under_way = known.under_way.saturating_sub(1);
            }
        }
    }
}

impl Adaptive {
    /// Takes note of a limit that the configuration declares.
    pub(crate) fn learn(&self, limit: LimitId, bounds: Bounds, now: Instant) {
        self.has_any.store(true, Ordering::Relaxed);
        let mut limits = self.lock();
        let known = limits.entry(limit).or_insert_with(|| Known::new(bounds, now));
        known.bounds = bounds;
        if known.belief.is_none() {
            self.stirred.notify_one();
        }
    }

    /// Whether there is any.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// A lease took the last of these. One that found nothing left says less: while calls end that were begun under a higher
    /// belief, nobody knows whether the provider takes what is believed now.
    pub(crate) fn note_full(&self, full: impl Iterator<Item = LimitId>, now: Instant) {
        if !self.has_any() {
            return;
        }
        let mut limits = self.lock();
        for limit in full {
            if let Some(known) = limits.get_mut(&limit) {
                known.full_at.get_or_insert(now);
            }
        }
    }

    /// A call begins that takes of `needed` limits.
    pub(crate) fn begin(&self, needed: &[LimitId]) -> UnderWay<'_> {
        let mut held = Vec::new();
        if self.has_any() {
            let mut limits = self.lock();
            for limit in needed {
                if let Some(known) = limits.get_mut(limit) {
                    known.under_way += 1;
                    held.push(*limit);
                }
            }
        }
        UnderWay { adaptive: self, limits: held }
    }

    /// A call that took of `needed` limits and was leased at `leased_at` has ended. Says of which of them that is to be rested
    /// for a moment: calls are refused.
    pub(crate) fn note_answer(
        &self,
        needed: &[LimitId],
        leased_at: Instant,
        report: &CallReport,
        now: Instant,
    ) -> Vec<LimitId> {
        let mut refusing = Vec::new();
        let Some(answer) = report.answer().filter(|_| self.has_any()) else { return refusing };
        let mut limits = self.lock();
        for limit in needed {
            let Some(known) = limits.get_mut(limit) else { continue };
            if is_refusal(answer.failure) {
                if known.note_refusal(leased_at, now) {
                    refusing.push(*limit);
                }
            } else if let Some(took) = report.time_to_first_byte.or(report.duration)
                && answer.failure.is_none()
            {
                known.latency.note(took);
            }
        }
        drop(limits);
        if !refusing.is_empty() {
            self.stirred.notify_one();
        }
        refusing
    }

    /// Whether a refusal that says no time is answered by a fall of one of these, so that no gate need be closed for it.
    pub(crate) fn absorbs_refusal(&self, needed: &[LimitId]) -> bool {
        self.has_any() && {
            let limits = self.lock();
            needed
                .iter()
                .filter_map(|limit| limits.get(limit))
                .any(|known| known.belief.is_some_and(|(_, belief)| belief.cap > known.bounds.floor))
        }
    }

    /// What is to be written now.
    pub(crate) fn moves(&self, now: Instant) -> Vec<Move> {
        let mut limits = self.lock();
        limits.iter_mut().filter_map(|(limit, known)| known.next(*limit, now)).collect()
    }

    /// What the database says of a limit after `made` was sent at `sent_at`. Says whether there may be more room than before.
    pub(crate) fn told(
        &self,
        made: &Move,
        stored: Option<StoredBelief>,
        sent_at: Instant,
        now: Instant,
    ) -> bool {
        let mut limits = self.lock();
        let Some(known) = limits.get_mut(&made.limit) else { return false };
        let Some(stored) = stored else {
            known.put_off(now);
            return false;
        };
        let before = known.belief.map_or(0, |(_, belief)| belief.cap);
        if known.belief.is_none_or(|(version, _)| version != stored.version) {
            known.full_at = None;
        }
        let belief = Belief {
            cap: stored.cap,
            refused_at: stored.refused_at,
            raises: stored.raises,
            falls: stored.falls,
            because: Because::of_word(&stored.because),
        };
        known.belief = Some((stored.version, belief));
        // By the later bound of when it may have been: what was leased in between may have been leased before.
        known.changed_at = now.checked_sub(stored.changed).unwrap_or(sent_at);
        known.lowered_at = stored.lowered.map(|ago| now.checked_sub(ago).unwrap_or(sent_at));
        (known.tried_again_at, known.failed) = (None, 0);
        if belief.cap < before {
            known.latency.heeded();
        }
        belief.cap > before
    }

    /// What could not be written is tried again in a while.
    pub(crate) fn failed(&self, made: &Move, now: Instant) {
        if let Some(known) = self.lock().get_mut(&made.limit) {
            known.put_off(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LimitId, Known>> {
        // Nothing that holds the lock can panic half way through a change.
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            bounds,
            belief: None,
            changed_at: now,
            lowered_at: None,
            full_at: None,
            refused: Vec::new(),
            refused_at: None,
            latency: Latency::default(),
            under_way: 0,
            tried_again_at: None,
            failed: 0,
        }
    }

    fn put_off(&mut self, now: Instant) {
        let wait = (TRIED_AGAIN_AFTER * 2_u32.pow(self.failed.min(10))).min(LAST_TRIED_AGAIN_AFTER);
        self.tried_again_at = Some(now + wait);
        self.failed = self.failed.saturating_add(1);
    }

    /// Says whether it is news.
    fn note_refusal(&mut self, leased_at: Instant, now: Instant) -> bool {
        let is_news = self.lowered_at.is_none_or(|lowered_at| leased_at >= lowered_at);
        if is_news && self.refused.len() < MOST_REFUSALS {
            self.refused.push(leased_at);
            self.refused_at.get_or_insert(now);
        }
        is_news
    }

    fn next(&mut self, limit: LimitId, now: Instant) -> Option<Move> {
        if self.tried_again_at.is_some_and(|at| now < at) {
            return None;
        }
        let Some((seen, belief)) = self.belief else {
            return Some(Move { limit, seen: 0, belief: Belief::first(self.bounds) });
        };
        if let Some(lowered_at) = self.lowered_at {
            self.refused.retain(|leased_at| *leased_at >= lowered_at);
        }
        let belief = if self.refused.is_empty() {
            self.refused_at = None;
            self.next_without_refusals(&belief, now)?
        } else {
            self.refused_at.filter(|at| now >= *at + GATHERED_WITHIN)?;
            let refused = u32::try_from(self.refused.len()).unwrap_or(u32::MAX);
            belief.refused(Sample { refused, accepted: self.under_way }, self.bounds)
        };
        Some(Move { limit, seen, belief })
    }

    fn next_without_refusals(&self, belief: &Belief, now: Instant) -> Option<Belief> {
        let since = now.saturating_duration_since(self.changed_at);
        self.full_at.filter(|at| now >= *at + REFUSED_WITHIN)?;
        if self.latency.is_slow() && since >= BETWEEN_SLOW_FALLS {
            return belief.slowed(self.bounds);
        }
        if since >= belief.rest() && !self.latency.is_slowish() {
            return belief.raised(self.bounds);
        }
        None
    }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
