//! Who watches which job change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sluice_domain::{JobId, JobView};
use sluice_store::{Bodies, Store, StoreError};
use tokio::sync::watch;

/// So many jobs are read in one statement.
const PAGE: usize = 500;

type Sender = watch::Sender<Option<Arc<JobView>>>;

#[derive(Default)]
pub(super) struct Watching(Mutex<HashMap<JobId, Sender>>);

impl Watching {
    pub(super) fn register(&self, job: JobId) -> watch::Receiver<Option<Arc<JobView>>> {
        let mut watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watching.entry(job).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// The jobs that somebody still watches; the others are forgotten.
    pub(super) fn ids(&self) -> Vec<JobId> {
        let mut watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watching.retain(|_, sender| sender.receiver_count() > 0);
        watching.keys().copied().collect()
    }

    /// Reads the jobs, and tells those who watch what has changed.
    pub(super) async fn ask(&self, store: &Store, ids: &[JobId]) -> Result<(), StoreError> {
        for page in ids.chunks(PAGE) {
            let jobs = store.jobs_by_id(page, Bodies::LeftOut).await?;
            let watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for job in jobs {
                let Some(sender) = watching.get(&job.id) else { continue };
                let is_new = sender.borrow().as_ref().is_none_or(|known| has_changed(known, &job));
                if is_new {
                    sender.send_replace(Some(Arc::new(job)));
                }
            }
        }
        Ok(())
    }
}

/// Whether a job has moved, as far as those who watch it care.
pub(crate) fn has_changed(known: &JobView, now: &JobView) -> bool {
    (known.state, known.generation, known.tries, known.crashes, known.started_at, known.run_at)
        != (now.state, now.generation, now.tries, now.crashes, now.started_at, now.run_at)
}
