//! The worker's present incarnation, and whether its lease still lasts.
//!
//! The lease counts from the *sending* of the last acknowledged beat: the database wrote the beat later than that, so
//! by its clock the lease lasts longer than by ours. When it is nearly over no call is started (the worker fences
//! itself off), and calls go on when a beat is acknowledged again. The dead stay dead: an incarnation whose beat is
//! refused is replaced by a new one.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_domain::IncarnationId;
use sluice_store::{CrashPoint, NewIncarnation, Store, StoreError, crash_point};

use crate::{Timing, WorkerError, clock, lock_file::LockFile};

/// Who this process is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) worker: String,
    pub(crate) host: String,
    pub(crate) lock_dir: Option<PathBuf>,
    /// Where the process's spool lies, once there is something in it.
    pub(crate) spool: Option<PathBuf>,
    pub(crate) isolates_suspects: bool,
}

/// The present incarnation.
#[derive(Debug)]
pub(crate) struct Incarnation {
    identity: Identity,
    timing: Timing,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    id: IncarnationId,
    /// When the last beat that was acknowledged was sent, by [`clock::since_boot`].
    acknowledged_at: Duration,
    is_dead: bool,
    _lock: Option<LockFile>,
}

impl Incarnation {
    /// Begins the first life.
    pub(crate) async fn begin(
        store: &Store,
        identity: Identity,
        timing: Timing,
    ) -> Result<Self, WorkerError> {
        let current = Current::begin(store, &identity).await?;
        Ok(Self { identity, timing, current: Mutex::new(current) })
    }

    /// Begins the next life, where the present one is dead. Says the dead one's id.
    pub(crate) async fn renew(&self, store: &Store) -> Result<IncarnationId, WorkerError> {
        let next = Current::begin(store, &self.identity).await?;
        crash_point(CrashPoint::IncarnationRenewed);
        let dead = std::mem::replace(&mut *self.lock(), next);
        let id = dead.id;
        // Its lock file is removed: by a thread that may wait, if the disk hangs.
        tokio::task::spawn_blocking(move || drop(dead));
        Ok(id)
    }

    /// The present one's id.
    pub(crate) fn id(&self) -> IncarnationId {
        self.lock().id
    }

    /// A beat that was sent at `sent_at` was acknowledged. Says how long after the one before it was sent.
    pub(crate) fn acknowledge(&self, id: IncarnationId, sent_at: Duration) -> Duration {
        let mut current = self.lock();
        if current.id != id {
            return Duration::ZERO;
        }
        let before = current.acknowledged_at;
        current.acknowledged_at = before.max(sent_at);
        sent_at.saturating_sub(before)
    }

    /// The database called it dead. Says whether that is news about the present one.
    pub(crate) fn mark_dead(&self, id: IncarnationId) -> bool {
        let mut current = self.lock();
        let is_news = current.id == id && !current.is_dead;
        current.is_dead |= is_news;
        is_news
    }

    /// Whether it must be replaced.
    pub(crate) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// Whether a call may start now.
    pub(crate) fn may_start(&self) -> bool {
        self.is_younger_than(self.timing.start_within())
    }

    /// Whether a call may start now under a lease of incarnation `id`. A lease of a dead one is over, however well its
    /// successor does.
    pub(crate) fn may_start_for(&self, id: IncarnationId) -> bool {
        let is_present = self.lock().id == id;
        is_present && self.may_start()
    }

    /// Whether a lease may last at this moment.
    pub(crate) fn is_within_ttl(&self) -> bool {
        self.is_younger_than(self.timing.lease_ttl)
    }

    fn is_younger_than(&self, age: Duration) -> bool {
        let current = self.lock();
        !current.is_dead && clock::since_boot().saturating_sub(current.acknowledged_at) < age
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Nothing that holds the lock can panic half way through a change.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    async fn begin(store: &Store, identity: &Identity) -> Result<Self, WorkerError> {
        let id = IncarnationId::generate();
        let lock = match &identity.lock_dir {
            Some(folder) => Some(hold_lock_file(folder, id, identity.spool.clone()).await?),
            None => None,
        };
        let acknowledged_at = clock::since_boot();
        let new = NewIncarnation {
            id,
            worker: identity.worker.clone(),
            host: identity.host.clone(),
            lock_path: lock.as_ref().map(|lock| lock.path().display().to_string()),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            isolates_suspects: identity.isolates_suspects,
        };
        let failed = |source| WorkerError::Store { doing: "begin as a new incarnation", source };
        bounded(store.incarnation_start(&new)).await.map_err(failed)?;
        crash_point(CrashPoint::IncarnationStarted);
        Ok(Self { id, acknowledged_at, is_dead: false, _lock: lock })
    }
}

/// Makes and locks the file of an incarnation; a disk that hangs is not waited for.
async fn hold_lock_file(
    folder: &Path,
    id: IncarnationId,
    spool: Option<PathBuf>,
) -> Result<LockFile, WorkerError> {
    let path = folder.to_owned();
    // What comes too late is removed again when it is dropped there.
    let holding = tokio::task::spawn_blocking(move || LockFile::hold(&path, id, spool.as_deref()));
    match tokio::time::timeout(STATEMENT_TIMEOUT, holding).await {
        Ok(Ok(held)) => held,
        Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        Err(_) => {
            let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "the disk does not answer");
            Err(WorkerError::LockFile { path: folder.to_owned(), source })
        }
    }
}

/// A statement that takes longer is given up: a connection that was cut off says nothing by itself.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for a statement, but not for ever.
pub(crate) async fn bounded<T>(
    statement: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::timed_out()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living(timing: Timing) -> Incarnation {
        let identity = Identity {
            worker: "w".to_owned(),
            host: "h".to_owned(),
            lock_dir: None,
            spool: None,
            isolates_suspects: false,
        };
        Incarnation { identity, timing, current: Mutex::new(begun()) }
    }

    fn begun() -> Current {
        let acknowledged_at = clock::since_boot();
        Current { id: IncarnationId::generate(), acknowledged_at, is_dead: false, _lock: None }
    }

    #[test]
    fn a_lease_of_a_dead_incarnation_starts_no_call_under_the_next() {
        let incarnation = living(Timing::default());
        let dead = incarnation.id();
        assert!(incarnation.may_start_for(dead));
        assert!(incarnation.mark_dead(dead));
        assert!(!incarnation.may_start_for(dead));
        *incarnation.lock() = begun();
        assert!(incarnation.may_start());
        assert!(!incarnation.may_start_for(dead));
        assert!(incarnation.may_start_for(incarnation.id()));
    }

    #[test]
    fn a_lease_counts_from_the_sending_of_the_last_acknowledged_beat() {
        let incarnation = living(Timing { lease_ttl: Duration::from_secs(10), ..Timing::default() });
        let id = incarnation.id();
        let begun = incarnation.lock().acknowledged_at;
        // Sent before the lease began: acknowledged late, and no help.
        incarnation.acknowledge(id, begun.saturating_sub(Duration::from_secs(5)));
        assert_eq!(incarnation.lock().acknowledged_at, begun);
        assert_eq!(incarnation.acknowledge(id, begun + Duration::from_secs(3)), Duration::from_secs(3));
        incarnation.lock().acknowledged_at = clock::since_boot().saturating_sub(Duration::from_secs(9));
        assert!(!incarnation.may_start(), "a fifth of the lease is left, and no call starts");
        assert!(incarnation.is_within_ttl());
    }
}
