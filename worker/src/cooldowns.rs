//! Gates that upstreams closed for a time: a 429, a 503, a 529, or a bucket that headers call empty.
//!
//! Whoever meets it closes the gate here at once and writes it down, which closes the lanes in the database and rings
//! the other workers. When the time is over, each worker asks the database: one of them makes a call alone; then all follow,
//! each at its own small part of its slots within a tenth of a second.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use sluice_domain::{ErrorClass, ModelName};
use sluice_policy::{
    cooldown::{self, Ramp},
    rate_limit::RateLimits,
};
use sluice_provider::CallReport;
use sluice_store::{CooledGate, GateWord, PausedKind, StoreError};
use tokio::time::{Instant, sleep};

use crate::{backoff::Backoff, core::Core, incarnation::bounded, routing::Target};

/// Workers that wait for the same moment ask within so long after it.
const ASKED_WITHIN: Duration = Duration::from_millis(50);
/// A gate that is closed for a little longer than others know is not written down again.
const WRITTEN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The gates that this worker knows to be closed, or to have been.
#[derive(Debug)]
pub(crate) struct Cooldowns {
    slots: usize,
    /// Nothing was ever refused: then nobody needs to look.
    has_any: AtomicBool,
    /// When the latest was closed, as the database says.
    latest: AtomicI64,
    /// Others may have closed some.
    pub(crate) wants_look: AtomicBool,
    gates: Mutex<HashMap<CooledGate, Gate>>,
}

#[derive(Debug, Default)]
struct Gate {
    state: State,
    /// Refusals without an answer between.
    in_a_row: u32,
    /// Until when it is closed as the database knows.
    written_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Open,
    /// Until then; afterwards the database is asked.
    Closed {
        until: Instant,
    },
    /// One call may be made, by this worker.
    Probe {
        until: Instant,
    },
    /// It was leased; others wait until then.
    Probing {
        until: Instant,
    },
    Ramp {
        opened_at: Instant,
        ramp: Ramp,
    },
}

/// What may begin through some gates.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Standing {
    Open,
    ClosedUntil(Instant),
    /// The time of this one is over: the database has to be asked.
    Ask(CooledGate),
    /// So many, through this one.
    MayBegin(CooledGate, usize),
}

/// The two gates that calls to a target go through.
pub(crate) fn gates_of(upstream: &str, account: &str, model: &ModelName) -> [CooledGate; 2] {
    [(PausedKind::Account, account), (PausedKind::Upstream, upstream)].map(|(kind, name)| CooledGate {
        kind,
        name: name.to_owned(),
        model: model.to_string(),
    })
}

impl Cooldowns {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: slots.max(1),
            has_any: AtomicBool::new(false),
            latest: AtomicI64::new(0),
            wants_look: AtomicBool::new(true),
            gates: Mutex::default(),
        }
    }

    /// Whether any gate was closed since the start.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// What may begin through these gates, now.
    pub(crate) fn standing(&self, through: &[CooledGate], now: Instant) -> Standing {
        if !self.has_any() {
            return Standing::Open;
        }
        let gates = self.lock();
        let standings = through.iter().filter_map(|key| Some(standing_of(key, gates.get(key)?, now)));
        // The one that is closed longest, before any that lets some through.
        standings
            .max_by_key(|standing| match standing {
                Standing::Open => (0, None),
                Standing::MayBegin(..) => (1, None),
                Standing::Ask(_) => (2, None),
                Standing::ClosedUntil(at) => (3, Some(*at)),
            })
            .unwrap_or(Standing::Open)
    }

    /// Whether a call of a lease that is in hand may begin: not if its gate was closed since.
    pub(crate) fn is_closed(&self, through: &[CooledGate]) -> bool {
        self.has_any() && {
            let gates = self.lock();
            through
                .iter()
                .any(|key| gates.get(key).is_some_and(|gate| matches!(gate.state, State::Closed { .. })))
        }
    }

    /// So many were leased that go through this gate.
    pub(crate) fn began(&self, key: &CooledGate, count: usize, now: Instant) {
        let mut gates = self.lock();
        let Some(gate) = gates.get_mut(key) else { return };
        match &mut gate.state {
            State::Probe { until } if count > 0 => gate.state = State::Probing { until: *until },
            State::Ramp { opened_at, ramp } => ramp.began(count, now.saturating_duration_since(*opened_at)),
            State::Probe { .. } | State::Probing { .. } | State::Open | State::Closed { .. } => {}
        }
    }

    /// What the database said of a gate.
    pub(crate) fn answered(&self, key: &CooledGate, word: GateWord, now: Instant) {
        let mut gates = self.lock();
        let Some(gate) = gates.get_mut(key) else { return };
        if matches!(gate.state, State::Closed { until } if until > now) {
            // Closed anew meanwhile.
            return;
        }
        gate.state = match word {
            GateWord::Closed(left) => State::Closed { until: now + left + a_little() },
            GateWord::Probe(alone) => State::Probe { until: now + alone + a_little() },
            GateWord::Ramp(since) => {
                let phase = rand::rng().random_range(0.0..1.0);
                let opened_at = now.checked_sub(since).unwrap_or(now);
                State::Ramp { opened_at, ramp: Ramp::new(self.slots, since, phase) }
            }
            GateWord::Open => State::Open,
        };
    }

    /// Closes a gate here. Says whether it has to be written down.
    fn close(&self, key: &CooledGate, until: Instant) -> bool {
        self.has_any.store(true, Ordering::Relaxed);
        let mut gates = self.lock();
        let gate = gates.entry(key.clone()).or_default();
        let is_longer = !matches!(gate.state, State::Closed { until: known } if known >= until);
        if is_longer {
            gate.state = State::Closed { until };
        }
        let is_news = gate.written_until.is_none_or(|known| until > known + WRITTEN_AGAIN_AFTER);
        if is_news {
            gate.written_until = Some(until);
        }
        is_news
    }

    /// What an answer means for its gate.
    fn judge(&self, key: &CooledGate, report: &CallReport, is_absorbed: bool) -> Option<cooldown::Cooldown> {
        let answer = report.answer()?;
        let is_refusal = cooldown::is_refusal(answer.failure);
        let mut in_a_row = 0;
        if is_refusal && !is_absorbed {
            self.has_any.store(true, Ordering::Relaxed);
            let mut gates = self.lock();
            let gate = gates.entry(key.clone()).or_default();
            gate.in_a_row = gate.in_a_row.saturating_add(1);
            in_a_row = gate.in_a_row;
        } else if !is_refusal
            && self.has_any()
            && let Some(gate) = self.lock().get_mut(key)
        {
            gate.in_a_row = 0;
        }
        let limits = &answer.rate_limits;
        cooldown::after_answer(answer.failure, report.retry_after(), limits, in_a_row, &mut rand::rng())
    }

    /// A beat says when the latest gate was closed. Says whether that is news.
    pub(crate) fn note_latest(&self, latest: i64) -> bool {
        let is_news = self.latest.swap(latest, Ordering::Relaxed) != latest && latest != 0;
        if is_news {
            self.wants_look.store(true, Ordering::Relaxed);
        }
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CooledGate, Gate>> {
        // Nothing that holds the lock can panic half way through a change.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn standing_of(key: &CooledGate, gate: &Gate, now: Instant) -> Standing {
    match gate.state {
        State::Open => Standing::Open,
        State::Closed { until } | State::Probing { until } if until > now => Standing::ClosedUntil(until),
        State::Probe { until } if until > now => Standing::MayBegin(key.clone(), 1),
        State::Closed { .. } | State::Probe { .. } | State::Probing { .. } => Standing::Ask(key.clone()),
        State::Ramp { opened_at, ramp } => {
            let since = now.saturating_duration_since(opened_at);
            match ramp.may_begin(since) {
                None => Standing::Open,
                // A moment more, so that it is there for certain.
                Some(0) => {
                    Standing::ClosedUntil(opened_at + ramp.next_after(since) + Duration::from_millis(1))
                }
                Some(count) => Standing::MayBegin(key.clone(), count),
            }
        }
    }
}

fn a_little() -> Duration {
    ASKED_WITHIN.mul_f64(rand::rng().random_range(0.0..1.0))
}

/// Reads which gates others have closed.
pub(crate) async fn look(core: &Core) -> Result<(), StoreError> {
    if !core.cooldowns.wants_look.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let listed = bounded(core.store.cooldowns()).await;
    let listed = listed.inspect_err(|_| core.cooldowns.wants_look.store(true, Ordering::Relaxed))?;
    let now = Instant::now();
    for known in listed {
        let until = now + known.left;
        if core.cooldowns.close(&known.gate, until + a_little()) && !known.left.is_zero() {
            tracing::debug!(
                kind = known.gate.kind.as_str(),
                name = known.gate.name,
                model = known.gate.model,
                left_ms = known.left.as_millis() as u64,
                "a gate is closed"
            );
        }
    }
    Ok(())
}

/// Asks the database for a gate whose time is over.
pub(crate) async fn ask(core: &Core, key: &CooledGate) -> Result<(), StoreError> {
    let word = bounded(core.store.cooldown_ask(key)).await?;
    core.cooldowns.answered(key, word, Instant::now());
    Ok(())
}

/// Closes the gate that an answer says is to be closed: here at once, and for all workers as soon as it is written. A refusal
/// that is absorbed, since the calls at once are found out by trying, counts only where it says for how long.
pub(crate) fn close_if_told(core: &Arc<Core>, target: &Target, report: &CallReport, is_absorbed: bool) {
    let Some(answer) = report.answer() else { return };
    let class = answer.failure;
    if !core.cooldowns.has_any() && class.is_none() && answer.rate_limits == RateLimits::default() {
        return;
    }
    let [of_account, of_upstream] = gates_of(&target.upstream.name, &target.upstream.account, &target.model);
    let key = if class == Some(ErrorClass::Overloaded) { of_upstream } else { of_account };
    let Some(cooldown) = core.cooldowns.judge(&key, report, is_absorbed) else { return };
    let until = Instant::now() + cooldown.wait;
    if !core.cooldowns.close(&key, until + a_little()) {
        return;
    }
    let reason = class.map_or("headers", ErrorClass::as_str);
    tracing::warn!(
        kind = key.kind.as_str(),
        name = key.name,
        model = key.model,
        reason,
        wait_ms = cooldown.wait.as_millis() as u64,
        is_told = cooldown.is_told,
        "an upstream wants to be left alone for a while"
    );
    let core = Arc::clone(core);
    tokio::spawn(async move {
        let lane_models = core.routing.load().models_only_at(&key);
        let mut backoff = Backoff::up_to(core.timing.poll_interval);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let closing = core.store.cooldown_close(&key, left, reason, cooldown.is_told, &lane_models);
            let Err(error) = bounded(closing).await else { return };
            tracing::debug!(%error, "a closed gate could not be written down yet");
            tokio::select! {
                () = core.signals.ended.cancelled() => return,
                () = sleep(backoff.rest()) => {}
            }
            if left.is_zero() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through() -> [CooledGate; 2] {
        gates_of("up", "acc", &ModelName::from_stored("m".to_owned()))
    }

    fn key() -> CooledGate {
        through()[0].clone()
    }

    #[test]
    fn a_closed_gate_is_asked_for_when_its_time_is_over_and_lets_one_through_then_more() {
        let cooldowns = Cooldowns::new(100);
        let now = Instant::now();
        let through = &through();
        assert_eq!(cooldowns.standing(through, now), Standing::Open);
        let until = now + Duration::from_secs(5);
        assert!(cooldowns.close(&key(), until));
        assert!(!cooldowns.close(&key(), until), "written already");
        assert!(cooldowns.is_closed(through));
        assert_eq!(cooldowns.standing(through, now), Standing::ClosedUntil(until));
        assert_eq!(cooldowns.standing(through, until), Standing::Ask(key()));
        cooldowns.answered(&key(), GateWord::Probe(Duration::from_secs(1)), until);
        assert_eq!(cooldowns.standing(through, until), Standing::MayBegin(key(), 1));
        assert!(!cooldowns.is_closed(through));
        cooldowns.began(&key(), 1, until);
        assert!(matches!(cooldowns.standing(through, until), Standing::ClosedUntil(_)));
        assert!(!cooldowns.is_closed(through), "the one that was leased may be called");
        let later = until + Duration::from_secs(2);
        cooldowns.answered(&key(), GateWord::Ramp(Duration::from_millis(500)), later);
        let mut begun = 0;
        for ms in 0..100 {
            let now = later + Duration::from_millis(ms);
            if let Standing::MayBegin(key, count) = cooldowns.standing(through, now) {
                cooldowns.began(&key, count, now);
                begun += count;
            }
        }
        assert!((1..=6).contains(&begun), "{begun}");
        assert_eq!(cooldowns.standing(through, later + Duration::from_secs(5)), Standing::Open);
    }

    #[test]
    fn what_was_closed_anew_stays_closed_whatever_the_database_had_said_before() {
        let cooldowns = Cooldowns::new(100);
        let now = Instant::now();
        let until = now + Duration::from_secs(5);
        cooldowns.close(&key(), until);
        cooldowns.answered(&key(), GateWord::Open, now);
        assert!(cooldowns.is_closed(&through()));
    }
}
