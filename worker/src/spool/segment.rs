//! One file of a spool, and the place of a record in it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sluice_domain::Settlement;

use super::{
    folder::Folder,
    frame::{self, DONE, STATE_AT},
    payload,
};

/// What the files are called.
pub(super) const ENDING: &str = "outcomes";

/// A file of records. It is removed when the last of them is done, unless something in it has to stay.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    /// Records that are not done.
    unwritten: AtomicUsize,
    /// Something in it is for a person, or for another program.
    stays: AtomicBool,
    /// Keeps the folder locked, and there.
    folder: Arc<Folder>,
}

/// Where a record lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(super) segment: Arc<Segment>,
    at: u64,
    length: u32,
}

impl Segment {
    /// A new file, which is on the disk under its name when this returns.
    pub(super) fn create(folder: &Arc<Folder>, number: u32) -> io::Result<Self> {
        let path = folder.path().join(format!("{number:08}.{ENDING}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        folder.sync()?;
        Ok(Self {
            file,
            path,
            unwritten: AtomicUsize::new(0),
            stays: AtomicBool::new(false),
            folder: Arc::clone(folder),
        })
    }

    /// A file that is there.
    pub(super) fn open(folder: &Arc<Folder>, path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self {
            file,
            path,
            unwritten: AtomicUsize::new(0),
            stays: AtomicBool::new(false),
            folder: Arc::clone(folder),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes records at `at` and waits until they are on the disk. Where that fails, nothing of it counts.
    pub(super) fn write(&self, at: u64, records: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(records, at).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Best effort: what stays is a torn tail, or records that are settled twice, which does no harm.
            let _ = self.file.set_len(at);
        }
        written
    }

    /// Takes a record into the count, and says where it lies.
    pub(super) fn place(self: &Arc<Self>, at: u64, length: u32) -> Place {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        Place { segment: Arc::clone(self), at, length }
    }

    /// Whether nothing in it is to be settled.
    pub(super) fn is_done(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) == 0
    }

    /// The file is not to be removed.
    pub(super) fn keep_file(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Removes the file, unless it is to stay.
    pub(super) fn remove(&self) {
        if self.stays.load(Ordering::Relaxed) {
            return;
        }
        // Where it can't be removed, its records are found done, or are settled once more.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a file of the spool can't be removed");
        }
    }
}

impl Place {
    /// What the record takes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.length)
    }

    /// Reads the settlement again.
    pub(crate) fn load(&self) -> io::Result<Settlement> {
        let mut record = vec![0; self.length as usize];
        self.segment.file.read_exact_at(&mut record, self.at)?;
        let settlement = frame::payload(&record, self.segment.folder.owner()).and_then(payload::decode);
        settlement.ok_or_else(|| io::Error::other("the record is damaged"))
    }

    /// Notes in the file that its verdict is known. Not flushed: a mark that is lost costs one more word with the
    /// database, which recognises it.
    pub(super) fn mark_done(&self) {
        if let Err(error) = self.segment.file.write_all_at(DONE, self.at + STATE_AT) {
            tracing::debug!(%error, path = %self.segment.path.display(), "a record can't be marked as done");
        }
        self.segment.unwritten.fetch_sub(1, Ordering::Relaxed);
    }
}
