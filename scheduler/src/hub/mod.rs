//! Waiting for jobs without a database connection each: one task asks for everybody.
//!
//! While somebody waits or watches, the task asks when a bell says that jobs have ended, and each second in any case;
//! while nobody does, it asks nothing. Whoever waits registers first and looks at the job after, so that an end in
//! between is not missed. Bells are heard over one connection of their own.

mod ear;
mod waiting;
mod watching;

use std::{sync::Arc, time::Duration};

use sluice_domain::{JobId, JobView};
use sluice_store::Store;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::watching::has_changed;
use self::{waiting::Waiting, watching::Watching};

/// How often is asked without a bell.
const POLL: Duration = Duration::from_secs(1);
/// Bells that ring together are heard as one. While few wait, a question costs less than their time.
const GAP: Duration = Duration::from_millis(20);
const SHORT_GAP: Duration = Duration::from_millis(4);
const FEW: usize = 100;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Knows who waits for what.
pub(crate) struct JobHub {
    waiting: Waiting,
    watching: Watching,
    /// Somebody came while perhaps nobody was there.
    arrival: Notify,
}

impl JobHub {
    /// Starts the task, which ends with `stopping`.
    pub(crate) fn start(store: Store, stopping: CancellationToken) -> Arc<Self> {
        let hub = Arc::new(Self {
            waiting: Waiting::default(),
            watching: Watching::default(),
            arrival: Notify::new(),
        });
        let task = Arc::clone(&hub);
        tokio::spawn(async move {
            let ended = stopping.clone();
            tokio::select! {
                () = ended.cancelled() => {}
                () = task.ask_for_everybody(store, stopping) => {}
            }
        });
        hub
    }

    /// A receiver that turns true once the job has ended. The caller looks at the job after this call.
    pub(crate) fn end_of(&self, job: JobId) -> watch::Receiver<bool> {
        let receiver = self.waiting.register(job);
        self.arrival.notify_one();
        receiver
    }

    /// A receiver of a job's states as they change, without bodies. The caller looks at the job after this call.
    pub(crate) fn changes_of(&self, job: JobId) -> watch::Receiver<Option<Arc<JobView>>> {
        let receiver = self.watching.register(job);
        self.arrival.notify_one();
        receiver
    }

    async fn ask_for_everybody(&self, store: Store, stopping: CancellationToken) {
        let bell = Arc::new(Notify::new());
        let mut is_listening = false;
        loop {
            let (waited_for, watched) = (self.waiting.ids(), self.watching.ids());
            if waited_for.is_empty() && watched.is_empty() {
                self.arrival.notified().await;
                continue;
            }
            if !is_listening {
                tokio::spawn(ear::listen(store.clone(), Arc::clone(&bell), stopping.clone()));
                is_listening = true;
            }
            let questions = async {
                self.waiting.ask(&store, &waited_for).await?;
                self.watching.ask(&store, &watched).await
            };
            match tokio::time::timeout(PATIENCE, questions).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = %error, "waited-for jobs could not be looked up"),
                Err(_) => tracing::debug!("waited-for jobs could not be looked up in time"),
            }
            let is_short = waited_for.len() <= FEW && watched.is_empty();
            tokio::time::sleep(if is_short { SHORT_GAP } else { GAP }).await;
            tokio::select! {
                () = bell.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}
