//! Who uses the server, and who may start or stop it.
//!
//! Two lock files, both locked by the kernel (`flock`), so that a process that dies in any way lets go of them:
//!
//! - `open.lock`, exclusive, is held while anybody looks whether the server runs, starts it or stops it;
//! - `users.lock`, shared, is held by each process for as long as it uses the server.
//!
//! Whoever stops using it takes `open.lock`, lets go of its share, and stops the server if it then gets `users.lock`
//! exclusively: nobody can join in between, since joining takes `open.lock` too. A last user that is killed leaves
//! the server running; the next one joins it and stops it at its own end.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::error::ClusterError;

const WAIT_STEP: Duration = Duration::from_millis(20);

/// The two lock files of one cluster.
#[derive(Clone, Debug)]
pub struct LockFiles {
    open: PathBuf,
    users: PathBuf,
}

/// Held while the server is looked at, started or stopped.
#[derive(Debug)]
pub struct OpenLock(
    #[expect(dead_code, reason = "held for its lock, which ends when the file is closed")] File,
);

/// A share in the server.
#[derive(Debug)]
pub struct UserShare(File);

impl LockFiles {
    /// The lock files in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { open: folder.join("open.lock"), users: folder.join("users.lock") }
    }

    /// Waits until nobody else starts or stops the server.
    pub fn lock_open(&self, timeout: Duration) -> Result<OpenLock, ClusterError> {
        let file = open_lock_file(&self.open)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(OpenLock(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < timeout => thread::sleep(WAIT_STEP),
                Err(TryLockError::WouldBlock) => {
                    return Err(ClusterError::Busy { lock: self.open.clone(), waited_s: timeout.as_secs() });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(ClusterError::file("lock", &self.open)(source));
                }
            }
        }
    }

    /// Takes a share. `_held` proves that nobody is stopping the server meanwhile.
    pub fn take_share(&self, _held: &OpenLock) -> Result<UserShare, ClusterError> {
        let file = open_lock_file(&self.users)?;
        file.lock_shared().map_err(ClusterError::file("lock", &self.users))?;
        Ok(UserShare(file))
    }

    /// Gives a share back and says whether it was the last one.
    pub fn give_back(&self, share: UserShare, _held: &OpenLock) -> Result<LastUser, ClusterError> {
        let UserShare(file) = share;
        file.unlock().map_err(ClusterError::file("unlock", &self.users))?;
        match file.try_lock() {
            Ok(()) => Ok(LastUser::Yes),
            Err(TryLockError::WouldBlock) => Ok(LastUser::No),
            Err(TryLockError::Error(source)) => Err(ClusterError::file("lock", &self.users)(source)),
        }
    }
}

/// Whether anybody else uses the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastUser {
    /// Nobody does: it is to be stopped.
    Yes,
    /// Somebody does.
    No,
}

fn open_lock_file(path: &Path) -> Result<File, ClusterError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(ClusterError::file("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_share_that_is_given_back_was_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let files = LockFiles::in_folder(folder.path());
        let held = files.lock_open(Duration::ZERO).unwrap();
        let (first, second) = (files.take_share(&held).unwrap(), files.take_share(&held).unwrap());
        assert_eq!(files.give_back(first, &held).unwrap(), LastUser::No);
        assert_eq!(files.give_back(second, &held).unwrap(), LastUser::Yes);
    }

    #[test]
    fn a_start_that_takes_too_long_elsewhere_is_an_error_and_not_a_hang() {
        let folder = tempfile::tempdir().unwrap();
        let files = LockFiles::in_folder(folder.path());
        let _held = files.lock_open(Duration::ZERO).unwrap();
        let error = files.lock_open(Duration::from_millis(30)).unwrap_err();
        assert!(matches!(error, ClusterError::Busy { .. }), "{error}");
    }
}
