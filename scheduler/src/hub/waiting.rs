//! Who waits for the end of which job.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sluice_domain::JobId;
use sluice_store::{Store, StoreError};
use tokio::sync::watch;

/// So many ids are asked about in one statement.
const PAGE: usize = 10_000;

#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<JobId, watch::Sender<bool>>>);

impl Waiting {
    pub(super) fn register(&self, job: JobId) -> watch::Receiver<bool> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(job).or_insert_with(|| watch::Sender::new(false)).subscribe()
    }

    /// The jobs that somebody still waits for; the others are forgotten.
    pub(super) fn ids(&self) -> Vec<JobId> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.keys().copied().collect()
    }

    /// Looks which of the jobs have ended, and tells those who wait.
    pub(super) async fn ask(&self, store: &Store, ids: &[JobId]) -> Result<(), StoreError> {
        for page in ids.chunks(PAGE) {
            let ended = store.jobs_ended_among(page).await?;
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for sender in ended.iter().filter_map(|id| waiting.remove(id)) {
                sender.send_replace(true);
            }
        }
        Ok(())
    }
}
