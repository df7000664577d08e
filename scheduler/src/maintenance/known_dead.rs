//! Workers of this host that are known to be dead: their lock file is free.
//!
//! The kernel lets go of a file lock when its process ends in any way, so a free lock is proof where an old beat is
//! only a suspicion; no brake is needed. A file that is not there proves nothing: the process may see another
//! file system under the same host name (a container).

use std::{fs::File, path::Path};

use sluice_store::{Store, WorkerRow};

use super::pace::asked;

/// Ends the incarnations of this host whose lock file is free; says how many leases ended with them.
pub(super) async fn end_known_dead(store: &Store, host: &str) -> u32 {
    let Some(workers) = asked("list_workers", store.workers()).await else { return 0 };
    let mut leases = 0;
    for worker in workers.into_iter().filter(|worker| worker.host == host) {
        if is_known_dead(&worker).await
            && let Some(ended) = asked("end_incarnation", store.incarnation_end(worker.id)).await
        {
            tracing::warn!(
                worker = worker.worker,
                worker.pid = worker.pid,
                leases = ended,
                "a worker process of this host ended without a word; its leases were ended"
            );
            leases += ended;
        }
    }
    leases
}

async fn is_known_dead(worker: &WorkerRow) -> bool {
    let Some(path) = worker.lock_path.clone() else { return false };
    // File locks never wait here, but file systems may.
    tokio::task::spawn_blocking(move || is_free(Path::new(&path))).await.unwrap_or(false)
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
    use super::is_free;

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
