//! What a worker does with the database, as a loop of its own: it leases the next batch while the last is settled, with
//! the batch sizes of the product's worker (whose second writer, for when the first is slow, is left out). The calls are left out: every job is answered at once.
//!
//! This folder is the one place that knows how the store leases and settles.

mod leasing;
mod same_sql;
mod settling;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sluice_domain::{IncarnationId, LimitId};
use sluice_store::{NewIncarnation, Store};
use tokio::sync::{Mutex, mpsc};

use self::{leasing::Leasing, settling::settle};
use super::{Database, Latencies, payload};

pub use same_sql::same_sql;

/// The most jobs of one lease statement, as in `worker/src/lease_loop.rs`.
pub const LEASE_BATCH: u32 = 200;
/// The most settlements of one statement, as in `worker/src/settle.rs`.
pub const SETTLE_GROUP: usize = 200;
/// A worker leases over one connection and settles over another.
const CONNECTIONS: u32 = 2;

/// What some workers did.
#[derive(Clone, Debug, Default)]
pub struct Worked {
    /// Jobs that were leased and settled.
    pub jobs: u64,
    /// From the first lease to the last settle.
    pub seconds: f64,
    /// How long the lease statements took that brought jobs.
    pub leases: Latencies,
    /// How long the settle statements took.
    pub settles: Latencies,
}

impl Worked {
    /// Jobs a second.
    pub fn rate(&self) -> f64 {
        self.jobs as f64 / self.seconds
    }
}

/// Workers that are connected.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
}

#[derive(Clone, Debug)]
struct Worker {
    store: Store,
    incarnation: IncarnationId,
    leasing: Arc<Mutex<Leasing>>,
    /// What every job is answered with.
    answer: Arc<[u8]>,
}

/// What the workers of a run share.
#[derive(Debug, Default)]
struct Shared {
    /// Jobs that may still be leased.
    left: AtomicU64,
    /// Jobs that were settled.
    settled: AtomicU64,
    /// Nothing more is to be leased: it is enough, or a worker has failed.
    is_over: AtomicBool,
    latencies: std::sync::Mutex<(Latencies, Latencies)>,
}

impl Workers {
    /// Connects so many, each with connections of its own.
    pub async fn connect(database: &Database, count: usize) -> Result<Self> {
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let store = database.store(CONNECTIONS).await?;
            let incarnation = start_incarnation(&store, number).await?;
            let leasing = Arc::new(Mutex::new(Leasing::new(store.clone(), incarnation)));
            workers.push(Worker { store, incarnation, leasing, answer: payload::answer().into() });
        }
        Ok(Self { workers })
    }

    /// Lets all their jobs take of these limits, which must be declared.
    pub async fn limited(self, limits: &[LimitId]) -> Self {
        for worker in &self.workers {
            worker.leasing.lock().await.limit_by(limits.into());
        }
        self
    }

    /// Lets them answer with so many bytes.
    #[must_use]
    pub fn answering(mut self, bytes: usize) -> Self {
        for worker in &mut self.workers {
            worker.answer = payload::answer_of(bytes).into();
        }
        self
    }

    /// Leases and settles exactly so many jobs; they must be there, or be submitted meanwhile.
    pub async fn work(&self, jobs: u64) -> Result<Worked> {
        let shared = Arc::new(Shared { left: AtomicU64::new(jobs), ..Shared::default() });
        self.run(&shared).await
    }

    /// Works until [`Running::stop`].
    pub fn start(self) -> Running {
        let shared = Arc::new(Shared { left: AtomicU64::new(u64::MAX / 2), ..Shared::default() });
        let theirs = Arc::clone(&shared);
        Running { shared, task: tokio::spawn(async move { self.run(&theirs).await }) }
    }

    async fn run(&self, shared: &Arc<Shared>) -> Result<Worked> {
        let begun = Instant::now();
        let tasks: Vec<_> = self
            .workers
            .iter()
            .map(|worker| tokio::spawn(work(worker.clone(), Arc::clone(shared))))
            .collect();
        for task in tasks {
            let worked = task.await.context("a worker panicked")?;
            if worked.is_err() {
                shared.is_over.store(true, Ordering::Relaxed);
            }
            worked?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (leases, settles) = shared.latencies();
        Ok(Worked { jobs: shared.settled.load(Ordering::Relaxed), seconds, leases, settles })
    }
}

/// Workers that work until they are stopped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<Result<Worked>>,
}

impl Running {
    /// Jobs that were settled so far.
    pub fn settled(&self) -> u64 {
        self.shared.settled.load(Ordering::Relaxed)
    }

    /// The latencies of leases since the last call.
    pub fn take_lease_latencies(&self) -> Latencies {
        self.shared.latencies().0
    }

    /// Lets them end what they have begun.
    pub async fn stop(self) -> Result<Worked> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.task.await.context("the workers panicked")?
    }
}

impl Shared {
    /// Takes leave to lease at most a batch.
    fn claim(&self) -> u32 {
        let most = u64::from(LEASE_BATCH);
        let claim = |left: u64| (left > 0).then(|| left - left.min(most));
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim) {
            Ok(before) => before.min(most) as u32,
            Err(_) => 0,
        }
    }

    /// Gives back what a lease did not bring.
    fn give_back(&self, jobs: u64) {
        self.left.fetch_add(jobs, Ordering::Relaxed);
    }

    fn latencies(&self) -> (Latencies, Latencies) {
        let mut both = self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *both)
    }

    fn note_lease(&self, took: Duration) {
        self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.note(took);
    }

    fn note_settle(&self, took: Duration) {
        self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1.note(took);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

async fn start_incarnation(store: &Store, number: usize) -> Result<IncarnationId> {
    let id = IncarnationId::generate();
    let new = NewIncarnation {
        id,
        worker: format!("bench-{number}"),
        host: "bench".to_owned(),
        lock_path: None,
        pid: std::process::id(),
        version: "0".to_owned(),
        isolates_suspects: false,
    };
    store.incarnation_start(&new).await?;
    Ok(id)
}

/// One worker: a loop that leases, and a writer.
async fn work(worker: Worker, shared: Arc<Shared>) -> Result<()> {
    let Worker { store, incarnation, leasing, answer } = worker;
    // About one lease waits while a group is written: what the product fetches ahead.
    let (sender, receiver) = mpsc::channel(LEASE_BATCH as usize / SETTLE_GROUP);
    let writer = tokio::spawn(settle(store, incarnation, answer, Arc::clone(&shared), receiver));
    let leased = leasing.lock().await.run(&shared, sender).await;
    writer.await.context("a writer panicked")??;
    leased
}

/// Fails unless every one of `jobs` jobs was done exactly once, with its result and both halves of its ledger.
pub async fn check_done_once(database: &Database, jobs: u64) -> Result<()> {
    let mut connection = database.connect().await?;
    let counts: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM sluice.done WHERE state = 'succeeded' AND length(body) > 0),
                (SELECT count(*) FROM sluice.attempts_begun),
                (SELECT count(*) FROM sluice.attempts_ended WHERE outcome = 'succeeded'),
                (SELECT count(*) FROM sluice.ready), (SELECT count(*) FROM sluice.running)",
    )
    .fetch_one(&mut connection)
    .await?;
    let expected = jobs as i64;
    ensure!(
        counts == (expected, expected, expected, 0, 0),
        "of {jobs} jobs: (done, begun, ended, ready, running) = {counts:?}"
    );
    Ok(())
}
