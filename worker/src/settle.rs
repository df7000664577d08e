//! Writes outcomes, many in one statement: a group commit.
//!
//! A group is what gathers in a few milliseconds, or less when nothing else is under way. Two groups are written at
//! once at most; while the database is away they wait and try again until they are written, since each may hold an
//! answer that was paid for. What gathers behind them is bounded: then no more calls are started.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sluice_domain::{JobState, LeaseId, SettleVerdict, Settlement};
use sluice_store::StoreError;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout_at},
};
use tracing::Span;

use crate::{SettledJob, backoff::Backoff, core::Core, incarnation::bounded};

/// How long a group gathers. With 200 calls of 50 ms under way, 5 ms instead of 3 spare a tenth of what Postgres uses;
/// more spare little. Whoever works alone waits for nobody.
const GATHER: Duration = Duration::from_millis(5);
/// The most settlements of a group.
const MAX_GROUP: usize = 200;
/// The most bytes of answers in a group; one answer alone may be larger.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Groups that are written at once.
const WRITERS: usize = 2;
/// Answers that may wait for the database, in bytes; above it no call is started.
const MAX_UNSETTLED_BYTES: usize = 128 * 1024 * 1024;
/// Settlements that may wait for the database; above it no call is started.
const MAX_UNSETTLED: usize = 4096;

/// An attempt that has ended and is not written down yet.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) settlement: Settlement,
    /// The attempt's span, which ends when this is written.
    pub(crate) span: Span,
}

/// Takes what is to be settled, and knows how much waits.
#[derive(Debug)]
pub(crate) struct Settler {
    sender: mpsc::UnboundedSender<Unsettled>,
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl Settler {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Unsettled>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, count: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }, receiver)
    }

    pub(crate) fn send(&self, unsettled: Unsettled) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(answer_bytes(&unsettled.settlement), Ordering::Relaxed);
        // The receiver lives as long as the worker.
        let _ = self.sender.send(unsettled);
    }

    /// Whether more answers may be fetched.
    pub(crate) fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < MAX_UNSETTLED
            && self.bytes.load(Ordering::Relaxed) < MAX_UNSETTLED_BYTES
    }

    fn note_written(&self, settlements: &[Settlement]) {
        self.count.fetch_sub(settlements.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(settlements.iter().map(answer_bytes).sum(), Ordering::Relaxed);
    }
}

fn answer_bytes(settlement: &Settlement) -> usize {
    settlement.answer.as_ref().map_or(0, |answer| answer.body.len())
}

/// What is written in one statement.
#[derive(Default)]
struct Group {
    settlements: Vec<Settlement>,
    spans: Vec<Span>,
    bytes: usize,
}

impl Group {
    fn push(&mut self, unsettled: Unsettled) {
        self.bytes += answer_bytes(&unsettled.settlement);
        self.settlements.push(unsettled.settlement);
        self.spans.push(unsettled.span);
    }

    fn is_full(&self) -> bool {
        self.settlements.len() >= MAX_GROUP || self.bytes >= MAX_GROUP_BYTES
    }

    /// The second half, where there is one.
    fn split(&mut self) -> Self {
        let middle = self.settlements.len() / 2;
        Self {
            settlements: self.settlements.split_off(middle),
            spans: self.spans.split_off(middle),
            bytes: 0,
        }
    }
}

/// Settles what comes in, until the worker is over.
pub(crate) async fn run(
    core: Arc<Core>,
    mut unsettled: mpsc::UnboundedReceiver<Unsettled>,
    settled: Option<mpsc::UnboundedSender<Vec<SettledJob>>>,
) {
    let writers = Arc::new(Semaphore::new(WRITERS));
    loop {
        let first = tokio::select! {
            () = core.signals.ended.cancelled() => return,
            first = unsettled.recv() => first,
        };
        let Some(first) = first else { return };
        let until = Instant::now() + GATHER;
        let Ok(permit) = Arc::clone(&writers).acquire_owned().await else { return };
        let group = gather(&core, first, &mut unsettled, until).await;
        let (core, settled) = (Arc::clone(&core), settled.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = core.signals.ended.cancelled() => {}
                () = write(&core, group, settled.as_ref()) => {}
            }
            drop(permit);
        });
    }
}

async fn gather(
    core: &Core,
    first: Unsettled,
    unsettled: &mut mpsc::UnboundedReceiver<Unsettled>,
    until: Instant,
) -> Group {
    let mut group = Group::default();
    group.push(first);
    while !group.is_full() {
        if let Ok(next) = unsettled.try_recv() {
            group.push(next);
            continue;
        }
        // Nobody else is under way: whoever waits, waits for this one.
        if core.in_flight() <= group.settlements.len() {
            break;
        }
        match timeout_at(until, unsettled.recv()).await {
            Ok(Some(next)) => group.push(next),
            _ => break,
        }
    }
    group
}

/// Tries until all is written. Where the database refuses a group, its halves are tried by themselves, so that one
/// settlement that can't be written doesn't keep the others.
async fn write(core: &Core, group: Group, settled: Option<&mpsc::UnboundedSender<Vec<SettledJob>>>) {
    let mut backoff = Backoff::up_to(Duration::from_secs(2));
    let mut groups = vec![group];
    let mut has_failed = false;
    while let Some(mut group) = groups.pop() {
        let begun = Instant::now();
        match bounded(core.store.settle_many(&group.settlements)).await {
            Ok(verdicts) => {
                core.metrics.settled(verdicts.len(), begun.elapsed());
                backoff.reset();
                note_written(core, group, &verdicts, settled);
            }
            Err(error) => {
                if !has_failed {
                    log_failure(&error, group.settlements.len());
                    has_failed = true;
                }
                let is_refused = !error.is_unavailable() && group.settlements.len() > 1;
                let second_half = is_refused.then(|| group.split());
                groups.push(group);
                groups.extend(second_half);
                if !is_refused {
                    sleep(backoff.rest()).await;
                    // What can't be written must not stand in the way of what can.
                    groups.rotate_right(1);
                }
            }
        }
    }
    if has_failed {
        tracing::info!("outcomes that had waited for the database are written");
    }
}

fn log_failure(error: &StoreError, attempts: usize) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    if error.is_unavailable() {
        tracing::warn!(%error, source, attempts, "outcomes wait for the database");
    } else {
        tracing::error!(%error, source, attempts, "the database refuses outcomes; they are tried again");
    }
}

fn note_written(
    core: &Core,
    group: Group,
    verdicts: &[SettleVerdict],
    settled: Option<&mpsc::UnboundedSender<Vec<SettledJob>>>,
) {
    core.settler.note_written(&group.settlements);
    let leases: Vec<LeaseId> = group.settlements.iter().map(|settlement| settlement.lease_id).collect();
    let mut has_ended = false;
    let mut told = settled.map(|_| Vec::with_capacity(verdicts.len()));
    for (settlement, verdict) in group.settlements.into_iter().zip(verdicts) {
        match verdict {
            SettleVerdict::LateAccepted | SettleVerdict::LateKept => core.metrics.late_result_kept(),
            SettleVerdict::Stale => core.metrics.stale_write_refused(),
            SettleVerdict::Settled | SettleVerdict::AlreadySettled => {}
        }
        let job = SettledJob::of(settlement, *verdict);
        if let Some(delay) = job.retry_in {
            core.signals.note_due(Instant::now() + delay);
        }
        has_ended |= job.state.is_some_and(JobState::is_terminal);
        if let Some(told) = &mut told {
            told.push(job);
        }
    }
    if let (Some(settled), Some(told)) = (settled, told) {
        // Told before the leases are let go of, so that whoever sees nothing in flight has been told everything.
        let _ = settled.send(told);
    }
    core.held.remove_many(&leases);
    if has_ended {
        core.ended.ring();
    }
}
