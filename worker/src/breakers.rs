//! The breakers of the upstreams as this worker knows them: what the beat tells, and what it has met itself and is about
//! to write down. A breaker that opens here is open here from the call that opened it.
//!
//! Calls pass by [`Breakers::enter`], which gives a ticket, and the ticket's end says how the call went. Not here: the
//! rules (`policy::breaker`), and who writes, probes and claims trials (`breaker_keeper`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_policy::breaker::{BreakerPolicy, Silence, Tally, Verdict};
use sluice_store::BreakerTold;
use tokio::{sync::Notify, time::Instant};

/// Tells the time since some fixed moment.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// A trial that no job has taken for so long goes back, so that another worker may make it.
const TRIAL_WAITS: Duration = Duration::from_secs(3);
/// For so long after a job was kept away by an open breaker, somebody wants it closed.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// Between two probes of one upstream, over all workers.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Between two claims of a trial that was not to be had.
const CLAIM_INTERVAL: Duration = Duration::from_secs(2);

/// All breakers.
pub(crate) struct Breakers {
    clock: Clock,
    state: Mutex<State>,
    /// There is something for the keeper to do.
    pub(crate) stirred: Notify,
}

#[derive(Debug, Default)]
struct State {
    changes: u64,
    policy: BreakerPolicy,
    upstreams: HashMap<String, Known>,
}

/// What is known of one upstream.
#[derive(Debug, Default)]
struct Known {
    tally: Tally,
    silence: Silence,
    open: Option<Open>,
    unwritten: Option<Word>,
    /// When the last own word was written, by [`crate::clock::since_boot`]: beats that were sent earlier can't know it.
    written_at: Option<Duration>,
    is_probed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    trial_at: Duration,
    failed_trials: u32,
    trial: Trial,
    wanted_at: Option<Duration>,
    next_probe_at: Duration,
    next_claim_at: Duration,
}

/// The trial, as far as it is this worker's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trial {
    None,
    /// The next call is it.
    Ready {
        until: Duration,
    },
    UnderWay,
}

/// What is to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    Opened { reason: &'static str },
    Closed,
    TrialFailed { failed_trials: u32 },
    TrialGivenBack,
}

/// What the keeper is to see to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Errand {
    Write(Word),
    ClaimTrial,
    Probe,
    /// Calls wait and nothing comes: is it there at all?
    ProbeSilent,
}

/// What stands before an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gate {
    /// Nothing.
    Free,
    /// The breaker is open, and the next call here is the trial.
    OnTrial,
    /// The breaker is open.
    Shut,
}

/// The right to make one call. Dropped without a word, it says nothing about the upstream.
pub(crate) struct Ticket {
    breakers: Arc<Breakers>,
    upstream: String,
    is_trial: bool,
    is_spent: bool,
}

impl Ticket {
    /// The call has ended: what it says about the upstream, its error's class, and whether anything came from there.
    pub(crate) fn end(mut self, verdict: Verdict, class: &'static str, was_answered: bool) {
        self.is_spent = true;
        self.breakers.left(&self.upstream, self.is_trial, verdict, class, was_answered);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_spent {
            self.breakers.left(&self.upstream, self.is_trial, Verdict::Nothing, "", false);
        }
    }
}

impl Breakers {
    pub(crate) fn new() -> Arc<Self> {
        let begun = Instant::now();
        Self::with_clock(Box::new(move || begun.elapsed()))
    }

    fn with_clock(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default(), stirred: Notify::new() })
    }

    /// The rules from now on.
    pub(crate) fn set_policy(&self, policy: BreakerPolicy) {
        self.lock().policy = policy;
    }

    /// The rules.
    pub(crate) fn policy(&self) -> BreakerPolicy {
        self.lock().policy
    }

    /// Rises with every change: what was decided under another number is out of date.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// What stands before `upstream`, for whoever wants to call it.
    pub(crate) fn gate(&self, upstream: &str) -> Gate {
        let now = (self.clock)();
        let mut state = self.lock();
        let Some(open) = state.upstreams.get_mut(upstream).and_then(|known| known.open.as_mut()) else {
            return Gate::Free;
        };
        open.wanted_at = Some(now);
        if matches!(open.trial, Trial::Ready { .. }) { Gate::OnTrial } else { Gate::Shut }
    }

    /// Lets one call pass, if any may.
    pub(crate) fn enter(self: &Arc<Self>, upstream: &str) -> Option<Ticket> {
        let now = (self.clock)();
        let mut state = self.lock();
        let State { changes, upstreams, .. } = &mut *state;
        if !upstreams.contains_key(upstream) {
            upstreams.insert(upstream.to_owned(), Known::default());
        }
        let known = upstreams.get_mut(upstream)?;
        let is_trial = match &mut known.open {
            None => false,
            Some(open) if matches!(open.trial, Trial::Ready { .. }) => {
                open.trial = Trial::UnderWay;
                true
            }
            Some(open) => {
                open.wanted_at = Some(now);
                return None;
            }
        };
        known.silence.begun(now);
        *changes += u64::from(is_trial);
        drop(state);
        let upstream = upstream.to_owned();
        Some(Ticket { breakers: Arc::clone(self), upstream, is_trial, is_spent: false })
    }

    fn left(
        &self,
        upstream: &str,
        is_trial: bool,
        verdict: Verdict,
        class: &'static str,
        was_answered: bool,
    ) {
        let now = (self.clock)();
        let mut state = self.lock();
        let State { changes, policy, upstreams } = &mut *state;
        let Some(known) = upstreams.get_mut(upstream) else { return };
        known.silence.ended(now, was_answered);
        let word = match &mut known.open {
            Some(open) if is_trial && open.trial == Trial::UnderWay => match verdict {
                Verdict::Works | Verdict::Answers => known.close(),
                Verdict::Fails => open.fail_trial(now, policy),
                Verdict::Nothing => open.give_trial_back(),
            },
            None if known.tally.opens_with(verdict, policy) => known.open_at(now, policy, class),
            // What was under way when it opened says nothing new.
            Some(_) | None => return,
        };
        known.unwritten = Some(word.clone());
        *changes += 1;
        drop(state);
        tell(upstream, &word);
        self.stirred.notify_one();
    }

    /// A probe of a silent upstream got no answer, or did. Says whether the breaker opened.
    pub(crate) fn silent_probed(&self, upstream: &str, is_there: bool) -> bool {
        let now = (self.clock)();
        let mut state = self.lock();
        let State { changes, policy, upstreams } = &mut *state;
        let Some(known) = upstreams.get_mut(upstream) else { return false };
        known.is_probed = false;
        // An answer may have come meanwhile.
        if is_there || known.open.is_some() || !known.silence.asks_for_probe(now, None) {
            known.silence.forgive(now);
            return false;
        }
        let word = known.open_at(now, policy, "silent");
        known.silence = Silence::default();
        known.unwritten = Some(word.clone());
        *changes += 1;
        drop(state);
        tell(upstream, &word);
        self.stirred.notify_one();
        true
    }

    /// A beat that was sent at `sent_at` says which breakers are open. Says whether that changed anything.
    pub(crate) fn told(&self, told: Vec<BreakerTold>, sent_at: Duration) -> bool {
        let now = (self.clock)();
        let mut state = self.lock();
        let State { changes, upstreams, .. } = &mut *state;
        let before = *changes;
        let mut told: HashMap<_, _> = told.into_iter().map(|told| (told.upstream.clone(), told)).collect();
        for name in told.keys() {
            if !upstreams.contains_key(name) {
                upstreams.insert(name.clone(), Known::default());
            }
        }
        for (name, known) in upstreams {
            let is_newer_here = known.unwritten.is_some() || known.written_at.is_some_and(|at| at >= sent_at);
            if is_newer_here {
                continue;
            }
            match (told.remove(name), &mut known.open) {
                (Some(told), Some(open)) => {
                    open.trial_at = now + told.trial_in;
                    open.failed_trials = told.failed_trials;
                }
                (Some(told), None) => {
                    known.open = Some(Open::new(now, told.trial_in, told.failed_trials));
                    *changes += 1;
                    tracing::info!(
                        upstream = name,
                        "a breaker is open: calls wait, or go to the next target"
                    );
                }
                (None, Some(_)) => {
                    known.close();
                    *changes += 1;
                    tracing::info!(upstream = name, "a breaker is closed again");
                }
                (None, None) => {}
            }
        }
        *changes != before
    }

    /// What is to be done now. Each errand is given out once; its end is told.
    pub(crate) fn errands(&self, usual: impl Fn(&str) -> Option<Duration>) -> Vec<(String, Errand)> {
        let now = (self.clock)();
        let mut state = self.lock();
        let State { changes, upstreams, .. } = &mut *state;
        let mut errands = Vec::new();
        for (name, known) in upstreams {
            if let Some(open) = &mut known.open
                && matches!(open.trial, Trial::Ready { until } if until <= now)
            {
                known.unwritten = Some(open.give_trial_back());
                *changes += 1;
            }
            if let Some(word) = &known.unwritten {
                errands.push((name.clone(), Errand::Write(word.clone())));
            } else if let Some(open) = &mut known.open {
                errands.extend(open.errand(now, known.is_probed).map(|errand| (name.clone(), errand)));
            } else if !known.is_probed && known.silence.asks_for_probe(now, usual(name)) {
                errands.push((name.clone(), Errand::ProbeSilent));
            }
            known.is_probed |=
                errands.last().is_some_and(|(of, errand)| of == name && *errand == Errand::ProbeSilent);
        }
        errands
    }

    /// The upstreams that were ever called or told of, and whether their breaker is open.
    pub(crate) fn standing(&self) -> Vec<(String, bool)> {
        self.lock().upstreams.iter().map(|(name, known)| (name.clone(), known.open.is_some())).collect()
    }

    /// `word` is in the database since `at`.
    pub(crate) fn written(&self, upstream: &str, word: &Word, at: Duration) {
        if let Some(known) = self.lock().upstreams.get_mut(upstream) {
            known.written_at = Some(at);
            if known.unwritten.as_ref() == Some(word) {
                known.unwritten = None;
            }
        }
    }

    /// Whether the trial that was claimed is ours.
    pub(crate) fn trial_claimed(&self, upstream: &str, is_ours: bool) {
        let now = (self.clock)();
        let mut state = self.lock();
        let State { changes, upstreams, .. } = &mut *state;
        let open = upstreams.get_mut(upstream).and_then(|known| known.open.as_mut());
        let Some(open) = open.filter(|open| open.trial == Trial::None) else { return };
        if is_ours {
            open.trial = Trial::Ready { until: now + TRIAL_WAITS };
            *changes += 1;
        } else {
            open.next_claim_at = now + CLAIM_INTERVAL;
        }
    }

    /// A probe that was given out is over.
    pub(crate) fn probed(&self, upstream: &str) {
        if let Some(known) = self.lock().upstreams.get_mut(upstream) {
            known.is_probed = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn open_at(&mut self, now: Duration, policy: &BreakerPolicy, reason: &'static str) -> Word {
        self.open = Some(Open::new(now, policy.reset_timeout, 0));
        Word::Opened { reason }
    }

    fn close(&mut self) -> Word {
        self.open = None;
        self.tally = Tally::default();
        Word::Closed
    }
}

impl Open {
    fn new(now: Duration, trial_in: Duration, failed_trials: u32) -> Self {
        Self {
            trial_at: now + trial_in,
            failed_trials,
            trial: Trial::None,
            wanted_at: None,
            next_probe_at: now,
            next_claim_at: now,
        }
    }

    fn fail_trial(&mut self, now: Duration, policy: &BreakerPolicy) -> Word {
        self.trial = Trial::None;
        self.trial_at = now + policy.reset_timeout;
        self.failed_trials += 1;
        Word::TrialFailed { failed_trials: self.failed_trials }
    }

    fn give_trial_back(&mut self) -> Word {
        self.trial = Trial::None;
        Word::TrialGivenBack
    }

    fn errand(&mut self, now: Duration, is_probed: bool) -> Option<Errand> {
        let is_wanted = self.wanted_at.is_some_and(|at| now < at + WANTED_FOR);
        if self.trial != Trial::None || !is_wanted {
            return None;
        }
        if self.trial_at <= now && self.next_claim_at <= now {
            self.next_claim_at = now + CLAIM_INTERVAL;
            return Some(Errand::ClaimTrial);
        }
        if self.next_probe_at <= now && !is_probed {
            self.next_probe_at = now + PROBE_INTERVAL;
            return Some(Errand::Probe);
        }
        None
    }
}

fn tell(upstream: &str, word: &Word) {
    match word {
        Word::Opened { reason } => {
            tracing::warn!(upstream, reason, "an upstream fails: its breaker opens, and calls to it wait");
        }
        Word::Closed => tracing::info!(upstream, "an upstream works again: its breaker closes"),
        Word::TrialFailed { failed_trials } => {
            tracing::info!(upstream, failed_trials, "an upstream still fails: its breaker stays open");
        }
        Word::TrialGivenBack => tracing::debug!(upstream, "a trial came to nothing"),
    }
}

#[cfg(test)]
#[path = "breakers_tests.rs"]
mod tests;
