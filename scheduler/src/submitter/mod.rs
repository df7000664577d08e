//! Group commit of singles: jobs that are submitted one by one at the same time are stored by one statement.
//!
//! A statement and its commit cost the database nearly the same for one job as for some dozens. The first submit goes at
//! once; while a statement is under way, what comes gathers, and goes together when it ends. So the groups grow with the
//! load. (To gather for a fixed time was turned down: on an idle system it is only delay, and under load it is not
//! needed.) Where a statement takes longer than [`SECOND_AFTER`], what has gathered does not wait for its end: then
//! [`WRITERS`] are under way at once.
//!
//! Nobody must notice that others came with the same statement:
//!
//! - Each submit gets its own verdict, after the commit.
//! - A group waits a few milliseconds for a key that another transaction holds uncommitted. If that is not enough, its jobs
//!   with keys go on one by one (`alone`), and the others at once. While a key is waited for, jobs with it join no group.
//! - A statement that fails for the sake of one job is repeated in halves, until the others are stored.
//! - Statements run in tasks of their own: a client that goes away breaks none off. A job whose client went away before
//!   its statement began is not stored.
//! - Large bodies go alone, so that small jobs don't wait for them.
//!
//! Not here: what is answered to clients (`handlers`, `grpc`), and submits in bulk, which are groups already.

mod alone;
mod group;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use sluice_domain::{Conflict, JobId, NewJob};
use sluice_store::{Ringer, Store, SubmitConnection};
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot},
    time::{Instant, timeout},
};

use self::{alone::Loner, group::Group};
use crate::server::{ApiError, READ_PATIENCE, asked};

/// Groups that are stored at once.
const WRITERS: usize = 2;
/// How long a statement may take before its jobs are told that the database is away.
const PATIENCE: Duration = READ_PATIENCE;
/// Two statements at once have smaller groups, which together cost more: a second one begins only when the first has been
/// under way for so long.
const SECOND_AFTER: Duration = Duration::from_millis(2);
/// A writer that had nothing to do for so long gives its connection back.
const REST_AFTER: Duration = Duration::from_millis(500);
/// Bodies from this size on go alone, in bytes.
const LARGE_BODY_BYTES: usize = 64 * 1024;

/// Takes single submits. Ends, with all that it has taken, after its last clone is dropped.
#[derive(Clone)]
pub(crate) struct Submitter {
    groups: mpsc::UnboundedSender<Submit>,
    loner: Arc<Loner>,
}

/// A job that is to be stored, and who waits to hear of it.
struct Submit {
    job: NewJob,
    arrived_at: Instant,
    verdict: oneshot::Sender<Result<Stored, ApiError>>,
}

/// What became of a job that was submitted.
pub(crate) enum Stored {
    /// It is a new job.
    Created {
        /// As it was submitted.
        job: Box<NewJob>,
        /// By the database's clock; `None` where it could not be read.
        created_at: Option<DateTime<Utc>>,
    },
    /// Its key was seen before with the same content: this is the job.
    Existing(JobId),
    /// It was refused and nothing was stored of it.
    Conflict(Conflict),
}

impl Submitter {
    /// Starts to take submits; `ready_bell` is rung for new jobs.
    pub(crate) fn start(store: &Store, ready_bell: Ringer) -> Self {
        let (groups, coming) = mpsc::unbounded_channel();
        let loner = Arc::new(Loner::new(store.clone(), ready_bell));
        let desk = Arc::new(Desk::new(Arc::clone(&loner)));
        let coming = Arc::new(Mutex::new(coming));
        for _ in 0..WRITERS {
            let (desk, coming) = (Arc::clone(&desk), Arc::clone(&coming));
            tokio::spawn(Writer { desk, coming, connection: store.submit_connection() }.run());
        }
        Self { groups, loner }
    }

    /// Stores a job; the answer comes after its commit. What waits here is bounded by the requests under way.
    pub(crate) async fn submit(&self, job: NewJob) -> Result<Stored, ApiError> {
        let id = job.id;
        let (verdict, decided) = oneshot::channel();
        let is_for_itself = job.body.len() >= LARGE_BODY_BYTES || self.loner.waits_for_key_of(&job);
        let submit = Submit { job, arrived_at: Instant::now(), verdict };
        if is_for_itself {
            tokio::spawn(Arc::clone(&self.loner).store(submit));
        } else if self.groups.send(submit).is_err() {
            // The task ends only with the runtime.
            return Err(ApiError::internal());
        }
        // A verdict that never comes: the task was cut at the end of the process.
        let verdict = async { decided.await.unwrap_or_else(|_| Err(ApiError::database_unavailable())) };
        asked(READ_PATIENCE, verdict).await.map_err(|error| error.of_submit(id))
    }
}

/// What the writers share.
struct Desk {
    loner: Arc<Loner>,
    /// When a group last waited in vain for the database.
    gave_up_at: std::sync::Mutex<Option<Instant>>,
    /// How many writers store a group now.
    at_work: AtomicUsize,
    /// One of them has ended.
    ended: Notify,
}

/// A writer stores a group, until this is dropped.
struct AtWork<'a>(&'a Desk);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

impl Desk {
    fn new(loner: Arc<Loner>) -> Self {
        let gave_up_at = std::sync::Mutex::default();
        Self { loner, gave_up_at, at_work: AtomicUsize::new(0), ended: Notify::new() }
    }

    fn begin_work(&self) -> AtWork<'_> {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self)
    }

    /// Waits for the statement that is under way, if there is one, but not for long.
    async fn let_others_end(&self) {
        let mut ended = pin!(self.ended.notified());
        // From here on an end is not missed.
        ended.as_mut().enable();
        if self.at_work.load(Ordering::Relaxed) > 0 {
            let _ = timeout(SECOND_AFTER, ended).await;
        }
    }
}

/// Stores one group after the other, over a connection of its own.
struct Writer {
    desk: Arc<Desk>,
    coming: Arc<Mutex<mpsc::UnboundedReceiver<Submit>>>,
    connection: SubmitConnection,
}

impl Writer {
    /// Stores what comes, until nobody is left who could send.
    async fn run(mut self) {
        loop {
            let coming = Arc::clone(&self.coming);
            let next = async {
                let mut coming = coming.lock().await;
                let first = coming.recv().await;
                (coming, first)
            };
            let mut next = pin!(next);
            let taken = if let Ok(taken) = timeout(REST_AFTER, &mut next).await {
                taken
            } else {
                self.connection.rest();
                next.await
            };
            let (mut coming, Some(first)) = taken else { return };
            // Requests that were read from their sockets together come together.
            tokio::task::yield_now().await;
            self.desk.let_others_end().await;
            let group = Group::gather(first, &mut coming);
            drop(coming);
            let desk = Arc::clone(&self.desk);
            let _at_work = desk.begin_work();
            self.store(group).await;
        }
    }
}
