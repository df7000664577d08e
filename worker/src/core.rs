//! What all parts of a worker share, and the one act that several of them perform: starting what waits.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use sluice_domain::LeaseId;
use sluice_store::{Ringer, Store};
use sluice_telemetry::WorkerMetrics;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    Blocked, Timing, WorkerError,
    adaptive::Adaptive,
    attempt,
    breakers::Breakers,
    called::Called,
    cooldowns::Cooldowns,
    incarnation::Incarnation,
    lane_limits::Rooms,
    lease::{HeldLeases, Lease, LeaseKey, StopReason},
    pauses::Pauses,
    retry_budget::RetryBudgets,
    routing::Routing,
    settle::{Settler, Unsettled},
    settlement,
    slots::Slots,
    spool::Spool,
    streams::Streams,
    suspect::Suspects,
};

/// Between two looks for calls under way.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How far a worker is on its way to the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// It leases and calls.
    Working,
    /// It starts nothing more and waits for what comes next.
    NotStarting,
    /// It waits for calls under way, within the grace.
    Draining,
    /// It lets go of all calls.
    Stopping,
}

/// What one part tells another.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// There may be work.
    pub(crate) bell: Notify,
    /// The beat brought something that the lease loop must see to.
    pub(crate) changed: Notify,
    /// The next beat should not wait for its time.
    pub(crate) beat_now: Notify,
    /// Beats get through again: what else is connected may have been lost without a word.
    pub(crate) beats_again: Notify,
    /// Everything has been written and the worker is over.
    pub(crate) ended: CancellationToken,
    /// A job of ours will be due that nobody else knows of.
    pub(crate) due_noted: Notify,
    due_at: Mutex<Option<Instant>>,
}

impl Signals {
    /// A job of ours can run at `at`, and nobody else knows.
    pub(crate) fn note_due(&self, at: Instant) {
        let mut due_at = self.due_at.lock().unwrap_or_else(PoisonError::into_inner);
        *due_at = Some(due_at.map_or(at, |first| first.min(at)));
        self.due_noted.notify_one();
    }

    /// When the next such job can run; a time that has passed is told once.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let mut due_at = self.due_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *due_at;
        if next.is_some_and(|at| at <= now) {
            *due_at = None;
        }
        next
    }
}

/// What all parts share.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) timing: Timing,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) incarnation: Incarnation,
    pub(crate) held: HeldLeases,
    /// The leases that calls were begun under lately.
    pub(crate) called: Called,
    pub(crate) slots: Slots,
    pub(crate) streams: Streams,
    pub(crate) suspects: Suspects,
    pub(crate) pauses: Pauses,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) retry_budgets: RetryBudgets,
    pub(crate) routing: ArcSwap<Routing>,
    /// The newest configuration that a beat told of.
    pub(crate) newest_configuration: AtomicI64,
    /// Whether secrets should be looked up again: something was resumed.
    pub(crate) wants_secrets: AtomicBool,
    pub(crate) blocked: Mutex<BTreeSet<Blocked>>,
    pub(crate) rooms: Rooms,
    pub(crate) adaptive: Adaptive,
    pub(crate) cooldowns: Cooldowns,
    pub(crate) signals: Arc<Signals>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Why it ends, where nobody asked it to.
    pub(crate) failure: OnceLock<WorkerError>,
    pub(crate) settler: Settler,
    pub(crate) spool: Arc<Spool>,
    pub(crate) returns: mpsc::UnboundedSender<LeaseKey>,
    pub(crate) ready: Ringer,
    pub(crate) ended: Ringer,
    pub(crate) runtime: Handle,
}

impl Core {
    /// Whether a call may start now.
    pub(crate) fn may_start(&self) -> bool {
        *self.phase.borrow() == Phase::Working
            && self.incarnation.may_start()
            && self.settler.has_room()
            && self.spool.has_room()
    }

    /// Rises with every change of a pause or a breaker: what was decided under another number is out of date.
    pub(crate) fn gates_seen(&self) -> u64 {
        self.pauses.changes() + self.breakers.changes()
    }

    /// Starts the leases that wait, as far as there are slots. Can be called from any thread.
    pub(crate) fn start_waiting(self: &Arc<Self>) {
        if self.may_start() {
            for lease in self.slots.take_startable() {
                self.runtime.spawn(attempt::run(Arc::clone(self), lease));
            }
        }
    }

    /// Gives leases back whose call was not begun. What was cancelled meanwhile has nowhere to go back to: it is
    /// settled as let go.
    pub(crate) fn give_back(&self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            if lease.stop.reason() == Some(StopReason::JobCancelled) {
                self.settler.send(Unsettled { settlement: settlement::let_go(&lease), span: Span::none() });
            } else {
                // The receiver lives as long as the worker.
                let _ = self.returns.send(lease.key());
            }
        }
    }

    /// Lets go of leases that are settled or given back: what they held of limits can be taken again.
    pub(crate) fn let_go(&self, leases: &[LeaseId]) {
        let limits = self.held.remove_many(leases);
        if !limits.is_empty() && self.rooms.freed(&limits) {
            self.signals.changed.notify_one();
        }
    }

    /// Gives back all leases that wait for a slot.
    pub(crate) fn give_back_waiting(&self) {
        self.give_back(self.slots.take_waiting());
    }

    /// Attempts that have begun and are not written down yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.held.count().saturating_sub(self.slots.waiting())
    }

    /// Goes on to `phase`, never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|present| {
            let is_further = phase > *present;
            *present = phase.max(*present);
            is_further
        });
        self.signals.beat_now.notify_one();
    }

    /// Ends the worker, though nobody asked it to: it starts nothing more, and calls under way may end within the grace.
    pub(crate) fn end_for(&self, failure: WorkerError) {
        // The first reason counts.
        if let Err(same) = self.failure.set(failure) {
            tracing::debug!(error = %same, "one more reason to end");
            return;
        }
        if let Some(error) = self.failure.get() {
            tracing::error!(%error, "the worker ends");
        }
        self.advance(Phase::Draining);
    }

    /// Comes back when no call is under way, and each that was has had its last word.
    pub(crate) async fn calls_ended(&self) {
        while self.slots.busy() > 0 {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Comes back when `phase` or a later one is reached.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives as long as this.
        let _ = self.phase.subscribe().wait_for(|present| *present >= phase).await;
    }
}
