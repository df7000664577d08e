//! The retry budgets of the upstreams, and whether first tries wait at all. Not here: the budget itself
//! (`policy::retry_budget`).

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use sluice_domain::{Decision, LeasedJob, Settlement};
use sluice_policy::retry_budget::RetryBudget;
use tokio::time::Instant;

use crate::lease::Lease;

/// Retries a second that are never held, over all workers.
const FLOOR_PER_S: f64 = 1.0;

/// All budgets of this worker.
#[derive(Debug)]
pub(crate) struct RetryBudgets {
    begun: Instant,
    budgets: Mutex<HashMap<String, RetryBudget>>,
    /// Leases come full, and first tries were among them: more of those wait.
    first_tries_wait: AtomicBool,
    /// Workers that live: each has its part of the floor.
    workers: AtomicU32,
}

impl RetryBudgets {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            budgets: Mutex::default(),
            first_tries_wait: AtomicBool::new(false),
            workers: AtomicU32::new(1),
        }
    }

    /// A lease of so many `wanted` jobs came. While leases come full they may hold retries only, for those go first; so
    /// first tries count as waiting until a lease comes short.
    pub(crate) fn note_leased(&self, wanted: usize, leased: &[LeasedJob]) {
        if leased.len() < wanted {
            self.first_tries_wait.store(false, Ordering::Relaxed);
        } else if leased.iter().any(is_first_try) {
            self.first_tries_wait.store(true, Ordering::Relaxed);
        }
    }

    /// So many workers live.
    pub(crate) fn note_workers(&self, alive: u32) {
        self.workers.store(alive.max(1), Ordering::Relaxed);
    }

    /// A call is about to be made.
    pub(crate) fn note_call(&self, upstream: &str, lease: &Lease) {
        if is_first_try(&lease.job) {
            self.with(upstream, RetryBudget::first_try);
        }
    }

    /// Puts a retry off that the budget has no room for, but not past the job's deadline.
    pub(crate) fn hold_retry(&self, settlement: &mut Settlement, upstream: &str, lease: &Lease) {
        let Decision::Requeue { delay, spends_try, is_refusal } = &mut settlement.decision else { return };
        let is_retry = *spends_try || *is_refusal;
        if !is_retry || !self.first_tries_wait.load(Ordering::Relaxed) {
            return;
        }
        let floor = FLOOR_PER_S / f64::from(self.workers.load(Ordering::Relaxed));
        let hold = self.with(upstream, |budget, now| budget.take_retry(now, floor));
        let later = (*delay).max(hold);
        let is_in_time = lease.deadline().is_none_or(|deadline| Instant::now() + later < deadline);
        if is_in_time {
            *delay = later;
        }
    }

    fn with<T>(&self, upstream: &str, act: impl FnOnce(&mut RetryBudget, Duration) -> T) -> T {
        let now = self.begun.elapsed();
        // Nothing that holds the lock can panic half way through a change.
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        match budgets.get_mut(upstream) {
            Some(budget) => act(budget, now),
            None => act(budgets.entry(upstream.to_owned()).or_insert(RetryBudget::new(now)), now),
        }
    }
}

fn is_first_try(job: &LeasedJob) -> bool {
    job.tries == 0 && job.refusals == 0 && job.crashes == 0
}
