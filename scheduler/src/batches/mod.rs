//! Moves batches on: from a file to jobs, and from their ends to files.
//!
//! A reconciler, like the loops of `maintenance`: any scheduler may take any batch, claims it for half a minute at a time,
//! and may die at any point of it. Each line's job has its id from before it is stored, in `batch_lines`; whoever goes on
//! with a batch stores the jobs that are missing. Files that were not shown are written again.
//!
//! ```text
//! validating ── all lines are jobs ──► in_progress ── all have ended ──► finalizing ──► completed
//!     │  └──── a line is wrong ──► failed      │
//!     │                                        └── its window is over, and all have ended ──► expired
//!     └─────── cancel ──► cancelling ◄── cancel ──┘
//!                             └── all have ended ──► cancelled
//! ```
//!
//! Lines are ended by what ends jobs: their deadline is the end of the batch's window. Not here: the endpoints
//! (`handlers`), and the calls.

mod claim;
mod finish;
mod output_line;
mod progress;
mod validate;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_domain::{Batch, BatchId, BatchStatus};
use sluice_store::Store;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use self::claim::{Claim, Trouble};

/// How often is looked for batches that others left behind.
const IDLE: Duration = Duration::from_secs(30);
/// Between two looks at least.
const GAP: Duration = Duration::from_millis(50);
/// After something failed.
const RETRY: Duration = Duration::from_secs(2);

/// Tells the loops of this process that a batch came or was cancelled. Without it they find it within half a minute.
#[derive(Clone, Debug, Default)]
pub struct BatchBell(Arc<Notify>);

impl BatchBell {
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }
}

/// Moves batches on, one at a time.
pub(crate) struct BatchMover {
    store: Store,
    bell: BatchBell,
    /// When batches that were left open are due.
    due: HashMap<BatchId, Instant>,
}

impl BatchMover {
    pub(crate) fn new(store: Store, bell: BatchBell) -> Self {
        Self { store, bell, due: HashMap::new() }
    }

    pub(crate) async fn run(mut self) {
        loop {
            match Claim::next(&self.store).await {
                Ok(Some(claim)) => self.move_on(claim).await,
                Ok(None) => self.rest().await,
                Err(error) => {
                    tracing::debug!(error = %error, "batches could not be looked for");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn rest(&mut self) {
        let now = Instant::now();
        // One that was due and is not to be claimed is moved on by somebody else.
        self.due.retain(|_, at| *at > now);
        let next = self.due.values().min().map_or(IDLE, |at| at.duration_since(now).max(GAP));
        // Woken or not: look.
        let _ = timeout(next.min(IDLE), self.bell.0.notified()).await;
    }

    async fn move_on(&mut self, mut claim: Claim) {
        let id = claim.batch;
        let rest = match step(&mut claim).await {
            Ok(rest) => rest,
            Err(Trouble::Over) => None,
            Err(Trouble::Changed) => Some(GAP),
            Err(Trouble::Store(error)) => {
                tracing::warn!(batch.id = %id, error = %error, "a batch could not be moved on; it is tried again");
                Some(RETRY)
            }
        };
        match rest {
            Some(rest) => {
                self.due.insert(id, Instant::now() + rest);
                claim.release(rest).await;
            }
            None => {
                self.due.remove(&id);
            }
        }
    }
}

/// Moves a batch on by one step; `None`: it has ended, else when to look again.
async fn step(claim: &mut Claim) -> Result<Option<Duration>, Trouble> {
    let Some(batch) = claim.read().await? else { return Ok(None) };
    match batch.status {
        BatchStatus::Validating => validate::step(claim, &batch).await,
        BatchStatus::Cancelling => {
            progress::cancel_open(claim, &batch).await?;
            progress_or_finish(claim, &batch).await
        }
        BatchStatus::InProgress | BatchStatus::Finalizing => progress_or_finish(claim, &batch).await,
        _ => Ok(None),
    }
}

async fn progress_or_finish(claim: &mut Claim, batch: &Batch) -> Result<Option<Duration>, Trouble> {
    let counted = progress::count(claim).await?;
    if counted.open > 0 {
        return Ok(Some(counted.rest(batch)));
    }
    finish::finish(claim, batch).await?;
    Ok(None)
}
