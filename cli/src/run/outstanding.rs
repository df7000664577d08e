//! Jobs whose results are still to be written, shared by who submits and who collects.
//!
//! An id is noted before its job is submitted, so that no worker can be faster. It goes when its result has been handed
//! to the writer.

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sluice_domain::JobId;

/// The ids, in order of their making.
#[derive(Debug, Default)]
pub struct Outstanding(Mutex<BTreeSet<JobId>>);

impl Outstanding {
    /// Notes jobs.
    pub fn add(&self, ids: impl IntoIterator<Item = JobId>) {
        self.ids().extend(ids);
    }

    /// Forgets jobs: their results are written, or they were never stored.
    pub fn remove(&self, ids: impl IntoIterator<Item = JobId>) {
        let mut outstanding = self.ids();
        for id in ids {
            outstanding.remove(&id);
        }
    }

    /// Those of `ids` that are outstanding, each once.
    pub fn among(&self, ids: impl IntoIterator<Item = JobId>) -> Vec<JobId> {
        let outstanding = self.ids();
        let found: BTreeSet<_> = ids.into_iter().filter(|id| outstanding.contains(id)).collect();
        found.into_iter().collect()
    }

    /// The next of them after `after`, at most `limit`.
    pub fn page(&self, after: Option<JobId>, limit: usize) -> Vec<JobId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ids().range((from, Bound::Unbounded)).take(limit).copied().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids().len()
    }

    /// The set is whole even after a panic elsewhere.
    fn ids(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
