//! Workers of this host that are known to be dead: their lock file is free.
//!
//! The kernel lets go of a file lock when its process ends in any way, so a free lock is proof where an old beat is
//! only a suspicion; no brake is needed. A file that is not there proves nothing: the process may see another
//! file system under the same host name (a container).
//!
//! A worker that left answers in its spool is left to its TTL: one that starts on this host meanwhile settles them, and
//! its jobs need not be paid again.
//!
//! A loop of its own: a file system that hangs must not keep the reaper from its scans, which would engage the brake.

use std::{collections::HashMap, ffi::OsStr, fs::File, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use sluice_domain::IncarnationId;
use sluice_store::{LockedWorker, Store};
use sluice_telemetry::{Death, ExpiryMetrics};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    MaintenanceOptions,
    pace::{asked, rest},
};

/// Between two looks, in scans of the reaper.
const SCANS_A_LOOK: u32 = 3;
/// How long one look at a file may take before the next file's turn comes.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct KnownDeadEnder {
    store: Store,
    host: String,
    period: Duration,
    metrics: ExpiryMetrics,
    /// Looks that have not come back yet. One for each worker: those that hang must not pile up.
    looks: HashMap<IncarnationId, JoinHandle<bool>>,
}

impl KnownDeadEnder {
    pub(super) fn new(store: Store, options: &MaintenanceOptions) -> Self {
        Self {
            store,
            host: options.host.clone(),
            period: options.scan * SCANS_A_LOOK,
            metrics: options.metrics.expiry().clone(),
            looks: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.look_at_all().await;
            rest(self.period).await;
        }
    }

    async fn look_at_all(&mut self) {
        let Some(workers) = asked("list_workers_of_host", self.store.workers_of_host(&self.host)).await
        else {
            return;
        };
        self.looks.retain(|id, _| workers.iter().any(|worker| worker.id == *id));
        for worker in workers {
            if self.is_known_dead(&worker).await {
                self.end(&worker).await;
            }
        }
    }

    async fn is_known_dead(&mut self, worker: &LockedWorker) -> bool {
        let path = worker.lock_path.clone();
        // File locks never wait here, but file systems may.
        let mut look = self
            .looks
            .remove(&worker.id)
            .unwrap_or_else(|| tokio::task::spawn_blocking(move || is_ended(Path::new(&path))));
        if let Ok(answer) = timeout(LOOK_PATIENCE, &mut look).await {
            return answer.unwrap_or(false);
        }
        self.looks.insert(worker.id, look);
        false
    }

    async fn end(&self, worker: &LockedWorker) {
        let ended = asked("end_known_dead", self.store.incarnation_end_if_unlocked(worker.id)).await;
        let Some(Some(leases)) = ended else { return };
        tracing::warn!(
            worker = worker.worker,
            worker.pid = worker.pid,
            leases,
            "a worker process of this host ended without a word; its leases were ended"
        );
        self.metrics.incarnations_died(Death::Known, 1);
        if leases > 0 {
            self.metrics.leases_expired(Death::Known, leases.into());
            asked("wake_sleepers", self.store.wake_sleepers()).await;
        }
    }
}

/// Whether the process has ended, and left nothing that the next one on this host would settle.
fn is_ended(path: &Path) -> bool {
    is_free(path) && !has_spool(path)
}

/// Whether the lock file names a spool, and it is there: it is removed with the last answer in it.
fn has_spool(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|spool| !spool.is_empty() && Path::new(OsStr::from_bytes(&spool)).is_dir())
}

/// Whether the file is there and nobody holds its lock. The lock is let go at once.
fn is_free(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::{has_spool, is_free};

    #[test]
    fn a_spool_counts_while_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, spool) = (folder.path().join("worker.lock"), folder.path().join("spool"));
        std::fs::write(&lock, "").unwrap();
        assert!(!has_spool(&lock));
        std::fs::write(&lock, spool.to_str().unwrap()).unwrap();
        assert!(!has_spool(&lock));
        std::fs::create_dir(&spool).unwrap();
        assert!(has_spool(&lock));
    }

    #[test]
    fn only_a_file_that_nobody_locks_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.lock");
        assert!(!is_free(&path));
        let file = std::fs::File::create(&path).unwrap();
        file.lock().unwrap();
        assert!(!is_free(&path));
        drop(file);
        assert!(is_free(&path));
        assert!(!is_free(folder.path()));
    }
}
