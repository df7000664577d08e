//! The spool: outcomes that the database did not take, on the disk of this host, until it takes them.
//!
//! An answer was paid for, and may be the only one there will ever be. While the database is away it would die with the
//! process. So each group that could not be written at the first try is appended to a file of the worker's own folder
//! and flushed before anything else is tried with it; when its verdict is known, it is marked as done, and the file is
//! removed with its last record. Whoever starts later with the same folder takes over what dead owners left, and settles
//! it under the leases that it was called with: the database knows best what these still count for.
//!
//! ```text
//! FOLDER/DATABASE/OWNER/lock               locked while the owner lives
//! FOLDER/DATABASE/OWNER/00000001.outcomes  records, see `frame`
//! FOLDER/DATABASE/corrupt/…                damaged records, for a person
//! ```
//!
//! The database's id is part of the path, so that no answer ends up in another one. Bodies lie there as they came:
//! folders and files are for their owner's eyes only. Keys never come near a settlement.
//!
//! Where the disk fails, outcomes wait in memory as they would without a spool, and the bound is that of memory.
//!
//! Not here: when something is spooled, and when it is tried again (`settle`).

mod adopt;
mod folder;
mod frame;
mod inspect;
mod payload;
mod segment;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sluice_domain::{IncarnationId, Settlement};
use sluice_telemetry::WorkerMetrics;
use uuid::Uuid;

pub use self::inspect::{SpoolState, inspect_spools};
pub(crate) use self::{adopt::Adopted, segment::Place};
use self::{folder::Folder, segment::Segment};
use crate::SpoolOptions;

/// A file that has grown to this takes no more, so that files go one by one as the database takes them.
const MAX_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// A worker's spool, and those that it took over.
pub(crate) struct Spool {
    /// Where the spools of this database lie; `None`: nothing is spooled.
    base: Option<PathBuf>,
    owner: Uuid,
    max_bytes: u64,
    max_outcomes: u64,
    metrics: WorkerMetrics,
    bytes: AtomicU64,
    outcomes: AtomicU64,
    has_failed: AtomicBool,
    own: Mutex<Option<Own>>,
    /// Folders in which something has to stay.
    left_alone: Mutex<HashSet<PathBuf>>,
}

/// The worker's own folder, once it has one.
struct Own {
    folder: Arc<Folder>,
    active: Option<Active>,
    segments: u32,
}

/// The file that takes records.
struct Active {
    segment: Arc<Segment>,
    length: u64,
}

/// Records that are appended together.
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
}

impl Batch {
    fn of(owner: Uuid, settlements: &[Settlement]) -> Option<Self> {
        let mut batch = Self { bytes: Vec::new(), lengths: Vec::with_capacity(settlements.len()) };
        for settlement in settlements {
            let before = batch.bytes.len();
            if !frame::push(&mut batch.bytes, owner, &payload::encode(settlement)?) {
                return None;
            }
            batch.lengths.push(u32::try_from(batch.bytes.len() - before).ok()?);
        }
        Some(batch)
    }
}

impl Spool {
    /// A spool for the outcomes of one database; without options there is none.
    pub(crate) fn new(options: Option<(SpoolOptions, Uuid)>, metrics: WorkerMetrics) -> Self {
        if options.is_some() {
            metrics.spool_holds(0, 0);
        }
        let (max_bytes, max_outcomes) =
            options.as_ref().map_or((0, 0), |(options, _)| (options.max_bytes, options.max_outcomes));
        Self {
            base: options.map(|(options, database)| options.folder.join(database.to_string())),
            owner: IncarnationId::generate().as_uuid(),
            max_bytes,
            max_outcomes,
            metrics,
            bytes: AtomicU64::new(0),
            outcomes: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            own: Mutex::new(None),
            left_alone: Mutex::default(),
        }
    }

    /// Whether more calls may be started, by what lies here.
    pub(crate) fn has_room(&self) -> bool {
        let (bytes, outcomes) = (self.bytes.load(Ordering::Relaxed), self.outcomes.load(Ordering::Relaxed));
        outcomes == 0 || (bytes < self.max_bytes && outcomes < self.max_outcomes)
    }

    /// Where this worker's own spool lies, once there is something in it.
    pub(crate) fn own_path(&self) -> Option<PathBuf> {
        self.base.as_deref().map(|base| folder::path_of(base, self.owner))
    }

    /// Where the spools of this database lie.
    pub(crate) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// Brings settlements to the disk. `None`: they are not safe there, and why was told.
    pub(crate) async fn keep(self: &Arc<Self>, settlements: &[Settlement]) -> Option<Vec<Place>> {
        self.base.as_ref()?;
        let batch = Batch::of(self.owner, settlements);
        let spool = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || match batch {
            Some(batch) => spool.append(&batch),
            None => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        });
        match kept.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(places) => {
                if self.has_failed.swap(false, Ordering::Relaxed) {
                    tracing::info!("outcomes are brought to the spool again");
                }
                Some(places)
            }
            Err(error) => {
                self.metrics.spool_failed();
                if !self.has_failed.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        %error, path = %self.base.as_deref().unwrap_or(Path::new("")).display(),
                        "outcomes can't be brought to the spool; they wait in memory alone, and end with the process"
                    );
                }
                None
            }
        }
    }

    /// The verdicts of these are known.
    pub(crate) async fn done(self: &Arc<Self>, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        let spool = Arc::clone(self);
        // It can't panic; and what is not marked is settled once more.
        let _ = tokio::task::spawn_blocking(move || spool.mark_done(&places)).await;
    }

    /// Takes over what dead owners left for this database.
    pub(crate) async fn adopt_dead(self: &Arc<Self>) -> Adopted {
        let spool = Arc::clone(self);
        tokio::task::spawn_blocking(move || spool.adopt()).await.unwrap_or_default()
    }

    /// Lets go of the own folder; what lies in it stays there.
    pub(crate) fn close(&self) {
        self.own().take();
    }

    fn append(&self, batch: &Batch) -> io::Result<Vec<Place>> {
        let Some(base) = &self.base else { return Err(io::ErrorKind::NotFound.into()) };
        let mut own = self.own();
        if own.is_none() {
            let folder = Arc::new(Folder::create(base, self.owner)?);
            *own = Some(Own { folder, active: None, segments: 0 });
        }
        let own = own.as_mut().expect("it was made a line above");
        let mut active = match own.active.take().filter(|active| active.length < MAX_SEGMENT_BYTES) {
            Some(active) => active,
            None => own.new_segment()?,
        };
        if let Err(error) = active.segment.write(active.length, &batch.bytes) {
            // After a failed flush nobody knows what a file holds: it takes no more.
            if active.segment.is_done() {
                active.segment.remove();
            }
            return Err(error);
        }
        let mut places = Vec::with_capacity(batch.lengths.len());
        for length in &batch.lengths {
            places.push(active.segment.place(active.length, *length));
            active.length += u64::from(*length);
        }
        own.active = Some(active);
        self.count(&places, Change::Added);
        Ok(places)
    }

    fn mark_done(&self, places: &[Place]) {
        // Held, so that nothing is appended to a file that is about to go.
        let mut own = self.own();
        for place in places {
            place.mark_done();
            if !place.segment.is_done() {
                continue;
            }
            if let Some(own) = own.as_mut() {
                own.active.take_if(|active| Arc::ptr_eq(&active.segment, &place.segment));
            }
            place.segment.remove();
        }
        self.count(places, Change::Removed);
    }

    fn adopt(&self) -> Adopted {
        let mut all = Adopted::default();
        let Some(base) = &self.base else { return all };
        let owners = folder::owners(base).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %base.display(), "the spools can't be listed");
            Vec::new()
        });
        for (owner, path) in owners.into_iter().filter(|(owner, _)| *owner != self.owner) {
            if self.left_alone().contains(&path) {
                continue;
            }
            let adopted = match Folder::take_over(path.clone(), owner) {
                Ok(Some(folder)) => adopt::adopt(base, folder),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            let adopted = adopted.unwrap_or_else(|error| {
                tracing::error!(%error, path = %path.display(), "a dead worker's spool can't be taken over");
                Adopted { has_remains: true, ..Adopted::default() }
            });
            if adopted.has_remains {
                self.left_alone().insert(path);
            }
            all.corrupt += adopted.corrupt;
            all.places.extend(adopted.places);
        }
        self.count(&all.places, Change::Added);
        self.metrics.spool_adopted(all.places.len(), all.corrupt);
        all
    }

    fn count(&self, places: &[Place], change: Change) {
        let (bytes, outcomes) = (places.iter().map(Place::bytes).sum::<u64>(), places.len() as u64);
        let (bytes, outcomes) = match change {
            Change::Added => (
                self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
                self.outcomes.fetch_add(outcomes, Ordering::Relaxed) + outcomes,
            ),
            Change::Removed => (
                self.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes,
                self.outcomes.fetch_sub(outcomes, Ordering::Relaxed) - outcomes,
            ),
        };
        self.metrics.spool_holds(bytes, outcomes);
    }

    fn own(&self) -> MutexGuard<'_, Option<Own>> {
        // A panic half way leaves at worst records that are settled once more.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_alone(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
}

impl Own {
    fn new_segment(&mut self) -> io::Result<Active> {
        self.segments += 1;
        Ok(Active { segment: Arc::new(Segment::create(&self.folder, self.segments)?), length: 0 })
    }
}

#[cfg(test)]
mod tests;
