//! The file that an incarnation holds locked while it lives. The system frees the lock at the very death of the
//! process, however it dies; so a reaper on the same host that gets the lock knows the incarnation dead.
//!
//! The file says where the worker's spool lies. While there is one, the reaper leaves the incarnation to its TTL: whoever
//! starts meanwhile settles what is in it, and nothing is paid twice.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use sluice_domain::IncarnationId;

use crate::WorkerError;

/// A locked file; removed and unlocked when dropped.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Makes and locks the file of an incarnation. The name holds its id, so that no other ever has the same file.
    pub(crate) fn hold(folder: &Path, id: IncarnationId, spool: Option<&Path>) -> Result<Self, WorkerError> {
        let path = folder.join(format!("worker-{id}.lock"));
        let failed = |source| WorkerError::LockFile { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = File::create(&path).map_err(failed)?;
        // From here on the file is removed should anything fail.
        let mut held = Self { path: path.clone(), file };
        held.file.lock().map_err(failed)?;
        if let Some(spool) = spool {
            held.file.write_all(spool.as_os_str().as_bytes()).map_err(failed)?;
        }
        Ok(held)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // What is left over is a file that nobody locks, of an incarnation that has ended.
        let _ = fs::remove_file(&self.path);
    }
}
