//! What the simulator knows of each account: its money, its limits' state, its context cache. One lock over all of
//! it; every section under it is short. Not here: whether a key is good (`call`), HTTP.

mod limits;
mod prefix_cache;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sluice_domain::NanoUsd;

use limits::{Charge, ModelWindow};
pub(crate) use limits::{LimitState, Refusal, Remaining};
use prefix_cache::PrefixCache;

use crate::config::Limits;

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By account.
    balances: HashMap<String, i64>,
    /// By account and model.
    windows: HashMap<(String, String), ModelWindow>,
    prefixes: PrefixCache,
}

/// A call's place among the calls under way, and what it was charged.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    key: (String, String),
    charge: Charge,
    window: Duration,
    /// What is left, for the headers.
    pub(crate) remaining: Remaining,
}

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves counts that are still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a call of `tokens` (its estimate), or says why not.
    pub(crate) fn admit(
        &self,
        account: &str,
        model: &str,
        limits: &Limits,
        tokens: u64,
        now: Instant,
    ) -> Result<Admission, Refusal> {
        let key = (account.to_owned(), model.to_owned());
        let mut state = self.lock();
        let window = state.windows.entry(key.clone()).or_default();
        let (charge, remaining) = window.admit(limits, tokens, now)?;
        Ok(Admission { key, charge, window: Duration::from_millis(limits.window_ms), remaining })
    }

    /// Ends an admitted call, which used `tokens` in truth and cost `cost`.
    pub(crate) fn leave(&self, admission: &Admission, tokens: u64, cost: NanoUsd, now: Instant) {
        let mut state = self.lock();
        if let Some(window) = state.windows.get_mut(&admission.key) {
            window.leave(admission.charge, tokens, admission.window, now);
        }
        if let Some(balance) = state.balances.get_mut(&admission.key.0) {
            *balance = balance.saturating_sub(cost.0);
        }
    }

    /// What an account has left; it begins with `initial`.
    pub(crate) fn balance(&self, account: &str, initial: NanoUsd) -> NanoUsd {
        let mut state = self.lock();
        if let Some(balance) = state.balances.get(account) {
            return NanoUsd(*balance);
        }
        state.balances.insert(account.to_owned(), initial.0);
        initial
    }

    /// Gives every account this balance.
    pub(crate) fn reset_balances(&self) {
        self.lock().balances.clear();
    }

    /// Tokens at the start of a prompt that come from the context cache; the prompt is remembered.
    pub(crate) fn cached_prefix_tokens(&self, account: &str, model: &str, prompt: &str) -> u64 {
        self.lock().prefixes.lookup(account, model, prompt)
    }

    /// Calls under way and the most there ever were, for each account and model.
    pub(crate) fn concurrency(&self) -> Vec<(String, String, LimitState)> {
        let state = self.lock();
        let windows = state.windows.iter();
        windows.map(|((account, model), window)| (account.clone(), model.clone(), window.state())).collect()
    }
}
