//! Upstreams and accounts that must not be called: what the beat tells, and what this worker has met itself and is
//! about to write down. A pause counts here from the moment of the answer that caused it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_store::{PausedKind, paused_model};

/// What is paused, by kind and name.
type Paused = (PausedKind, String);

/// So many calls in a row that are forbidden (403), without a result between, say that the key may not call the model at all.
const FORBIDDEN_IN_A_ROW: u32 = 5;

/// The pauses that this worker knows of.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    changes: u64,
    told: HashSet<Paused>,
    own: HashMap<Paused, Written>,
    /// How many calls in a row were forbidden, of models of upstreams.
    forbidden: HashMap<String, u32>,
}

/// Whether an own pause is in the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Written {
    NotYet,
    /// By [`crate::clock::since_boot`]: a beat that was sent later knows it, or knows that somebody resumed it.
    At(Duration),
}

/// What a beat's word changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// Nothing.
    Nothing,
    /// Something was paused, nothing resumed.
    Paused,
    /// Something was resumed.
    Resumed,
}

impl Pauses {
    /// Whether calls of a model to an upstream must wait.
    pub(crate) fn of(&self, upstream: &str, account: &str, model: &str) -> Option<Paused> {
        let state = self.lock();
        if state.told.is_empty() && state.own.is_empty() {
            return None;
        }
        [
            (PausedKind::Upstream, upstream.to_owned()),
            (PausedKind::Account, account.to_owned()),
            (PausedKind::Model, paused_model(upstream, model)),
        ]
        .into_iter()
        .find(|paused| state.told.contains(paused) || state.own.contains_key(paused))
    }

    /// A call of a model to an upstream was forbidden, or had a result. Says whether that pauses the model there.
    pub(crate) fn note_forbidden(&self, upstream: &str, model: &str, is_forbidden: bool) -> bool {
        let mut state = self.lock();
        // Mostly nothing is ever forbidden.
        if !is_forbidden && state.forbidden.is_empty() {
            return false;
        }
        let key = paused_model(upstream, model);
        if !is_forbidden {
            state.forbidden.remove(&key);
            return false;
        }
        let in_a_row = state.forbidden.entry(key.clone()).or_default();
        *in_a_row += 1;
        let is_enough = *in_a_row >= FORBIDDEN_IN_A_ROW;
        if is_enough {
            state.forbidden.remove(&key);
        }
        is_enough
    }

    /// Pauses here and now. Says whether that is news, which the caller then writes down.
    pub(crate) fn begin(&self, paused: &Paused) -> bool {
        let mut state = self.lock();
        if state.told.contains(paused) || state.own.contains_key(paused) {
            return false;
        }
        state.own.insert(paused.clone(), Written::NotYet);
        state.changes += 1;
        true
    }

    /// Rises with every change: what was decided under another number is out of date.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// An own pause is in the database.
    pub(crate) fn written(&self, paused: &Paused, at: Duration) {
        if let Some(written) = self.lock().own.get_mut(paused) {
            *written = Written::At(at);
        }
    }

    /// A beat that was sent at `sent_at` says what is paused.
    pub(crate) fn told(&self, told: Vec<Paused>, sent_at: Duration) -> Told {
        let mut state = self.lock();
        let told: HashSet<Paused> = told.into_iter().collect();
        let before = state.all();
        state.own.retain(|_, written| !matches!(written, Written::At(at) if *at < sent_at));
        state.told = told;
        let after = state.all();
        state.changes += u64::from(before != after);
        if !before.is_subset(&after) {
            Told::Resumed
        } else if after.is_subset(&before) {
            Told::Nothing
        } else {
            Told::Paused
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn all(&self) -> HashSet<Paused> {
        self.told.iter().chain(self.own.keys()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(name: &str) -> Paused {
        (PausedKind::Upstream, name.to_owned())
    }

    #[test]
    fn a_model_is_paused_by_five_in_a_row_without_a_result_between() {
        let pauses = Pauses::default();
        let mut note = |is_forbidden| pauses.note_forbidden("u", "m", is_forbidden);
        let noted = [true, true, true, true, false, true, true, true, true, true].map(&mut note);
        assert_eq!(noted.iter().position(|is_enough| *is_enough), Some(9));
        let model = (PausedKind::Model, "u m".to_owned());
        pauses.begin(&model);
        assert_eq!(pauses.of("u", "a", "m"), Some(model));
        assert_eq!(pauses.of("u", "a", "other"), None);
    }

    #[test]
    fn an_own_pause_outlives_beats_that_can_not_know_it() {
        let pauses = Pauses::default();
        let second = Duration::from_secs;
        assert!(pauses.begin(&upstream("u")));
        assert!(!pauses.begin(&upstream("u")));
        assert_eq!(pauses.told(Vec::new(), second(1)), Told::Nothing);
        pauses.written(&upstream("u"), second(3));
        assert_eq!(pauses.told(Vec::new(), second(2)), Told::Nothing);
        assert_eq!(pauses.of("u", "a", "m"), Some(upstream("u")));
        assert_eq!(pauses.told(vec![upstream("u")], second(4)), Told::Nothing);
        assert_eq!(pauses.told(Vec::new(), second(5)), Told::Resumed);
        assert_eq!(pauses.of("u", "a", "m"), None);
    }

    #[test]
    fn an_account_pauses_all_its_upstreams() {
        let pauses = Pauses::default();
        let account = (PausedKind::Account, "a".to_owned());
        assert_eq!(pauses.told(vec![account.clone()], Duration::ZERO), Told::Paused);
        assert_eq!(pauses.of("u", "a", "m"), Some(account));
        assert_eq!(pauses.of("u", "b", "m"), None);
    }
}
