//! Leases in hand, from the moment they arrive until they are settled or handed back.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use sluice_domain::{IncarnationId, JobId, LeaseId, LeasedJob, LimitId, LimitKind};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    lane_limits::{MOST_UNTIL_SENT, ids_of},
    routing::{Routing, Target},
    watchdog::UnderWay,
};

/// Why a call is to be let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopReason {
    /// Somebody cancelled the job.
    JobCancelled,
    /// The job's deadline passed.
    Deadline,
    /// The worker ends and its grace is over.
    WorkerEnds,
}

/// What others may do to an attempt, and what they see of it: ends its call, for the first reason that was given.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: OnceLock<StopReason>,
    pub(crate) polls: Polls,
}

impl Stop {
    pub(crate) fn now(&self, reason: StopReason) {
        // A second reason changes nothing.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// Counts the polls of an attempt: odd while one is under way. The watchdog looks at it.
#[derive(Debug, Default)]
pub(crate) struct Polls(AtomicU64);

impl Polls {
    /// Counts the polls of `attempt`, also those that panic.
    pub(crate) async fn count<T>(&self, attempt: impl Future<Output = T>) -> T {
        struct Done<'a>(&'a Polls);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut attempt = std::pin::pin!(attempt);
        std::future::poll_fn(|context| -> Poll<T> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let _done = Done(self);
            attempt.as_mut().poll(context)
        })
        .await
    }

    fn under_way(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|count| count % 2 == 1)
    }
}

/// The right to work one job.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The job, without its body.
    pub(crate) job: LeasedJob,
    /// The request's JSON; a call that could not be sent is made again with it.
    pub(crate) body: Bytes,
    /// The incarnation that leased it; it may be dead by now.
    pub(crate) incarnation_id: IncarnationId,
    /// When the lease statement was sent: the job's deadline counts from here, rather too early than too late.
    pub(crate) leased_at: Instant,
    pub(crate) allowance: Allowance,
    pub(crate) stop: Arc<Stop>,
}

/// What a lease holds of limits.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    /// Of these, in order; none where its lane has no limit.
    pub(crate) limits: Arc<[LimitId]>,
    /// Since when: not later than the database counts it from.
    pub(crate) taken_at: Instant,
}

impl Allowance {
    /// Whether the call can leave in time: the windows count it from when it was taken, with a margin until it arrives.
    pub(crate) fn is_fresh(&self) -> bool {
        let has_window = self.limits.iter().any(|limit| limit.kind() != LimitKind::Concurrency);
        !has_window || self.taken_at.elapsed() < MOST_UNTIL_SENT
    }
}

impl Lease {
    pub(crate) fn new(mut job: LeasedJob, incarnation_id: IncarnationId, leased_at: Instant) -> Self {
        let body = Bytes::from(std::mem::take(&mut job.body));
        let allowance = Allowance { limits: Arc::default(), taken_at: leased_at };
        Self { job, body, incarnation_id, leased_at, allowance, stop: Arc::default() }
    }

    /// Whether what it holds is what a call to `target` needs by `routing`.
    pub(crate) fn has_allowance_for(&self, target: &Target, routing: &Routing) -> bool {
        if !routing.has_limits() {
            // What it holds besides does no harm.
            return true;
        }
        let (account, there) = (&target.upstream.account, &target.model);
        let needed = routing.limits_at(&self.job.tenant, &self.job.queue, account, there);
        ids_of(&needed) == self.allowance.limits
    }

    /// Whether a call that begins now arrives within the time that its allowance counts for.
    pub(crate) fn has_fresh_allowance(&self) -> bool {
        self.allowance.is_fresh()
    }

    /// Whether it holds of limits and has not begun for so long that others should have that.
    pub(crate) fn wastes_allowance(&self) -> bool {
        !self.allowance.limits.is_empty() && self.allowance.taken_at.elapsed() > MOST_UNTIL_SENT
    }

    /// Time since it was leased.
    pub(crate) fn age(&self) -> Duration {
        self.leased_at.elapsed()
    }

    /// When the job's deadline passes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.job.deadline_in.and_then(|left| self.leased_at.checked_add(left))
    }

    /// What names it in the database.
    pub(crate) fn key(&self) -> LeaseKey {
        LeaseKey { incarnation: self.incarnation_id, job: self.job.job_id, lease: self.job.lease_id }
    }
}

/// What names a lease in the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LeaseKey {
    pub(crate) incarnation: IncarnationId,
    pub(crate) job: JobId,
    pub(crate) lease: LeaseId,
}

#[derive(Debug)]
struct HeldLease {
    job: JobId,
    limits: Arc<[LimitId]>,
    stop: Arc<Stop>,
}

/// All leases in hand.
#[derive(Debug, Default)]
pub(crate) struct HeldLeases {
    leases: Mutex<HashMap<LeaseId, HeldLease>>,
    emptied: Notify,
}

impl HeldLeases {
    pub(crate) fn add(&self, lease: &Lease) {
        let held = HeldLease {
            job: lease.job.job_id,
            limits: Arc::clone(&lease.allowance.limits),
            stop: Arc::clone(&lease.stop),
        };
        self.lock().insert(lease.job.lease_id, held);
    }

    pub(crate) fn remove(&self, lease: LeaseId) {
        let mut held = self.lock();
        held.remove(&lease);
        if held.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Says of which limits they held.
    pub(crate) fn remove_many(&self, leases: &[LeaseId]) -> Vec<LimitId> {
        let mut limits = Vec::new();
        let mut held = self.lock();
        for lease in leases {
            limits.extend(held.remove(lease).iter().flat_map(|gone| gone.limits.iter().copied()));
        }
        if held.is_empty() {
            self.emptied.notify_waiters();
        }
        drop(held);
        limits.sort_unstable();
        limits.dedup();
        limits
    }

    pub(crate) fn holds(&self, lease: LeaseId) -> bool {
        self.lock().contains_key(&lease)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Lets go of the calls of cancelled jobs.
    pub(crate) fn cancel(&self, leases: &[LeaseId]) {
        let held = self.lock();
        for lease in leases.iter().filter_map(|lease| held.get(lease)) {
            lease.stop.now(StopReason::JobCancelled);
        }
    }

    /// Lets go of all calls.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for lease in self.lock().values() {
            lease.stop.now(reason);
        }
    }

    /// The attempts that are being polled at this moment.
    pub(crate) fn polls_under_way(&self) -> Vec<UnderWay> {
        let held = self.lock();
        held.iter().filter_map(|(id, lease)| Some((*id, lease.job, lease.stop.polls.under_way()?))).collect()
    }

    /// Waits until none is left.
    pub(crate) async fn emptied(&self) {
        loop {
            // Registered before looking, so that a removal in between is not missed.
            let emptied = self.emptied.notified();
            if self.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, HeldLease>> {
        // Nothing that holds the lock can panic half way through a change.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
