//! Writes outcomes, many in one statement: a group commit.
//!
//! A group is what gathers in a few milliseconds, or less when nothing else is under way. One group is written at a time,
//! and a second one beside it where that takes long. One that can't be written at the first try is brought to the spool, and waits in the backlog until it
//! is written, since it may hold answers that were paid for. While the database is away, what comes goes to the spool at
//! once, and the oldest group of the backlog is what finds out that it is back. What waits is bounded: then no more
//! calls are started.

mod backlog;
mod group;
mod takeover;
mod write;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sluice_domain::Settlement;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

pub(crate) use self::takeover::{take_over_first, take_over_now_and_then};
use self::{backlog::Backlog, group::Group};
use crate::{SettledJob, core::Core};

/// How long a group gathers. With 200 calls of 50 ms under way, 5 ms instead of 3 spare a tenth of what Postgres uses;
/// more spare little. Whoever works alone waits for nobody.
const GATHER: Duration = Duration::from_millis(5);
/// A second group is written beside the first only when that has been waited for so long. Two at once share the same
/// cores and the same log, and cost more than one after the other; but one that hangs must not keep all others.
const SECOND_AFTER: Duration = Duration::from_millis(25);
/// Answers that may wait in memory, in bytes; above it no call is started.
const MAX_UNSETTLED_BYTES: usize = 128 * 1024 * 1024;
/// Settlements that may wait in memory; above it no call is started.
const MAX_UNSETTLED: usize = 4096;

/// Who hears of what was settled.
type Settled = Option<mpsc::UnboundedSender<Vec<SettledJob>>>;

/// An attempt that has ended and is not written down yet.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) settlement: Settlement,
    /// The attempt's span, which ends when this is written.
    pub(crate) span: Span,
}

/// Outcomes that were not written when a worker ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unwritten {
    /// In the spool; the next worker with the same folder settles them.
    pub in_spool: usize,
    /// Nowhere: their answers are lost, and their jobs run again when their leases end.
    pub lost: usize,
    /// Where the spools of this database lie, where there is something in them.
    pub folder: Option<PathBuf>,
}

/// Takes what is to be settled, and knows how much waits.
#[derive(Debug)]
pub(crate) struct Settler {
    sender: mpsc::UnboundedSender<Unsettled>,
    /// What waits in memory.
    count: AtomicUsize,
    bytes: AtomicUsize,
    /// Whether the database is away, as far as settles know.
    away: watch::Sender<bool>,
    backlog: Backlog,
    /// What is not written by now goes to the spool, and is left there.
    closing: CancellationToken,
    tasks: TaskTracker,
    unwritten: OnceLock<Unwritten>,
}

impl Settler {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Unsettled>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let settler = Self {
            sender,
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            away: watch::Sender::new(false),
            backlog: Backlog::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            unwritten: OnceLock::new(),
        };
        (settler, receiver)
    }

    pub(crate) fn send(&self, unsettled: Unsettled) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(answer_bytes(&unsettled.settlement), Ordering::Relaxed);
        // The receiver lives as long as the worker.
        let _ = self.sender.send(unsettled);
    }

    /// Whether more answers may be fetched, by what waits in memory.
    pub(crate) fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < MAX_UNSETTLED
            && self.bytes.load(Ordering::Relaxed) < MAX_UNSETTLED_BYTES
    }

    /// What was left when the worker ended; nothing before that.
    pub(crate) fn unwritten(&self) -> Unwritten {
        self.unwritten.get().cloned().unwrap_or_default()
    }

    /// Whether what is safe on the disk should make room in memory.
    fn is_half_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) > MAX_UNSETTLED / 2
            || self.bytes.load(Ordering::Relaxed) > MAX_UNSETTLED_BYTES / 2
    }

    fn left_memory(&self, settlements: &[Settlement]) {
        self.count.fetch_sub(settlements.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(settlements.iter().map(answer_bytes).sum(), Ordering::Relaxed);
    }

    fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Notes whether the database takes settles. Says whether that is news.
    fn note_away(&self, is_away: bool) -> bool {
        self.is_away() != is_away
            && self.away.send_if_modified(|away| {
                let is_news = *away != is_away;
                *away = is_away;
                is_news
            })
    }
}

fn answer_bytes(settlement: &Settlement) -> usize {
    settlement.answer.as_ref().map_or(0, |answer| answer.body.len())
}

/// Starts the tasks that settle what comes in, until [`close`].
pub(crate) fn start(core: &Arc<Core>, unsettled: mpsc::UnboundedReceiver<Unsettled>, settled: Settled) {
    core.settler.tasks.spawn(backlog::run(Arc::clone(core), settled.clone()));
    core.settler.tasks.spawn(run(Arc::clone(core), unsettled, settled));
}

/// Ends these tasks. What is not written then is in the spool as far as it takes it.
pub(crate) async fn close(core: &Core) -> Unwritten {
    core.settler.closing.cancel();
    core.settler.tasks.close();
    core.settler.tasks.wait().await;
    let (mut unwritten, mut left) = (Unwritten::default(), Vec::new());
    for mut group in core.settler.backlog.take_all() {
        group.bring_to_spool(core).await;
        if group.is_in_spool() {
            unwritten.in_spool += group.len();
        } else {
            unwritten.lost += group.len();
        }
        left.append(&mut group.places);
    }
    if unwritten.in_spool > 0 {
        unwritten.folder = core.spool.base().map(std::path::Path::to_owned);
    }
    core.spool.close(left).await;
    core.settler.unwritten.get_or_init(|| unwritten).clone()
}

async fn run(core: Arc<Core>, mut unsettled: mpsc::UnboundedReceiver<Unsettled>, settled: Settled) {
    let turns = Turns::default();
    let mut away = core.settler.away.subscribe();
    loop {
        let first = tokio::select! {
            () = core.settler.closing.cancelled() => break,
            first = unsettled.recv() => first,
        };
        let Some(first) = first else { return };
        let until = Instant::now() + GATHER;
        let turn = tokio::select! {
            biased;
            // The sender lives as long as the worker.
            _ = away.wait_for(|away| *away) => None,
            () = core.settler.closing.cancelled() => None,
            turn = turns.next() => Some(turn),
        };
        let group = gather(&core, first, &mut unsettled, until).await;
        let Some(turn) = turn else {
            write::put_off(&core, group).await;
            continue;
        };
        let (writer, settled) = (Arc::clone(&core), settled.clone());
        core.settler.tasks.spawn(async move {
            write::write(&writer, group, settled.as_ref()).await;
            drop(turn);
        });
    }
    while let Ok(first) = unsettled.try_recv() {
        let group = gather(&core, first, &mut unsettled, Instant::now()).await;
        write::put_off(&core, group).await;
    }
}

/// Who may write.
#[derive(Debug)]
struct Turns {
    first: Arc<Semaphore>,
    second: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { first: Arc::new(Semaphore::new(1)), second: Arc::new(Semaphore::new(1)) }
    }
}

impl Turns {
    /// Waits for a turn, which ends when it is dropped. None is lost where the waiting is given up.
    async fn next(&self) -> OwnedSemaphorePermit {
        let first = || Arc::clone(&self.first).acquire_owned();
        let turn = if let Ok(turn) = timeout(SECOND_AFTER, first()).await {
            turn
        } else {
            tokio::select! {
                turn = first() => turn,
                turn = Arc::clone(&self.second).acquire_owned() => turn,
            }
        };
        turn.expect("a semaphore that is never closed")
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
        if core.in_flight() <= group.len() {
            break;
        }
        match timeout_at(until, unsettled.recv()).await {
            Ok(Some(next)) => group.push(next),
            _ => break,
        }
    }
    group
}
