//! The folder of one spool, and who owns it.
//!
//! The owner holds the lock of a file in it. The system frees the lock at the very death of the process, however it
//! dies; whoever gets it then owns the spool, and says so in the file. A folder appears under its name only once its lock
//! is held, so that nobody can take a new one for a dead owner's.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::segment::ENDING;

const LOCK: &str = "lock";
/// What stands in the lock file of a folder that was taken over.
const TAKEN_OVER: &[u8] = b"taken over";

/// A spool's folder, owned. Let go of when dropped, and removed if nothing is left in it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    owner: Uuid,
    _lock: File,
}

impl Folder {
    /// Makes the folder of a new owner below `base`, for nobody else's eyes.
    pub(super) fn create(base: &Path, owner: Uuid) -> io::Result<Self> {
        make(base)?;
        let unnamed = base.join(format!(".new-{owner}"));
        DirBuilder::new().mode(0o700).create(&unnamed)?;
        let created = lock_of(&unnamed, true).and_then(|lock| {
            lock.lock()?;
            let path = path_of(base, owner);
            fs::rename(&unnamed, &path)?;
            sync(base)?;
            Ok(Self { path, owner, _lock: lock })
        });
        if created.is_err() {
            let _ = fs::remove_dir_all(&unnamed);
        }
        created
    }

    /// Takes the folder of a dead owner.
    pub(super) fn take_over(path: PathBuf, owner: Uuid) -> io::Result<TakeOver> {
        let mut lock = match lock_of(&path, false) {
            Ok(lock) => lock,
            // It was removed while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {
                return Ok(TakeOver::Gone);
            }
            // Somebody removed the lock alone: nobody can hold it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => lock_of(&path, true)?,
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => {
                // Best effort: a full disk costs others the knowledge, and they lease a little sooner.
                let _ = lock.write_all(TAKEN_OVER);
                Ok(TakeOver::Done(Self { path, owner, _lock: lock }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut said = Vec::new();
                lock.read_to_end(&mut said)?;
                Ok(if said.is_empty() { TakeOver::OwnerLives } else { TakeOver::OtherAtIt })
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Its files with records, the oldest first.
    pub(super) fn segments(&self) -> io::Result<Vec<PathBuf>> {
        segments(&self.path)
    }

    /// Brings the names in it to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync(&self.path)
    }
}

/// What came of taking a folder.
#[derive(Debug)]
pub(super) enum TakeOver {
    /// It is ours.
    Done(Folder),
    /// Its owner lives; or somebody took it this very moment.
    OwnerLives,
    /// Somebody else has taken it over and settles what is in it.
    OtherAtIt,
    /// Nothing is left of it.
    Gone,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.segments().is_ok_and(|left| left.is_empty()) {
            // What can't be removed is an empty spool, which does no harm.
            let _ = fs::remove_file(self.path.join(LOCK)).and_then(|()| fs::remove_dir(&self.path));
        }
    }
}

/// The folder of an owner.
pub(super) fn path_of(base: &Path, owner: Uuid) -> PathBuf {
    base.join(owner.to_string())
}

/// The owners of all spools below `base`, with their folders.
pub(super) fn owners(base: &Path) -> io::Result<Vec<(Uuid, PathBuf)>> {
    let mut owners = Vec::new();
    for (name, path) in entries(base)? {
        // Strictly the form that we write, so that no path is read in two ways.
        if let Some(owner) = Uuid::parse_str(&name).ok().filter(|owner| owner.to_string() == name) {
            owners.push((owner, path));
        }
    }
    owners.sort_unstable();
    Ok(owners)
}

/// The files with records in a folder, the oldest first.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = entries(folder)?.into_iter().map(|(_, path)| path);
    let mut segments: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// What lies in a folder; nothing where it is not there.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

/// Whether somebody holds the lock of a spool's folder.
pub(super) fn has_owner(folder: &Path) -> bool {
    lock_of(folder, false).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes a folder, and those above it that are missing, for our eyes only; on the disk when this returns.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync(above),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn lock_of(folder: &Path, is_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(is_new)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(LOCK))
}
