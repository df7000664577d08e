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
//! Where the disk fails or hangs, outcomes wait in memory as they would without a spool, and the bound is that of memory.
//! Nobody waits long for a disk that hangs, neither a settle nor the end of the worker.
//!
//! Not here: when something is spooled, and when it is tried again (`settle`).

mod adopt;
mod disk;
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
use sluice_store::{CrashPoint, crash_point};
use sluice_telemetry::WorkerMetrics;
use uuid::Uuid;

pub use self::inspect::{SpoolState, inspect_spools};
pub(crate) use self::{adopt::Adopted, segment::Place};
use self::{
    disk::Disk,
    folder::{Folder, TakeOver},
    segment::Segment,
};
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
    disk: Arc<Disk>,
    own: Mutex<Option<Own>>,
    marks: Mutex<Marks>,
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

/// Records whose verdicts are known and that are to be marked.
#[derive(Default)]
struct Marks {
    waiting: Vec<Place>,
    /// Somebody marks, and takes along what is added meanwhile: one thread at most waits for a disk that hangs.
    is_under_way: bool,
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
            disk: Arc::default(),
            own: Mutex::new(None),
            marks: Mutex::default(),
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

    /// Brings settlements to the disk. `None`: they are not safe there, and why was told. What a disk that hung has written
    /// after all, when nobody waits for it any more, is marked as done again: it is in the hands of whoever asked.
    pub(crate) async fn keep(self: &Arc<Self>, settlements: &[Settlement]) -> Option<Vec<Place>> {
        self.base.as_ref()?;
        let kept = if self.disk.is_stuck() { Err(hangs()) } else { self.bring(settlements).await };
        match kept {
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

    async fn bring(self: &Arc<Self>, settlements: &[Settlement]) -> io::Result<Vec<Place>> {
        let Some(batch) = Batch::of(self.owner, settlements) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        let (spool, undoing) = (Arc::clone(self), Arc::clone(self));
        let undo = move |late: io::Result<Vec<Place>>| {
            if let Ok(places) = late {
                undoing.mark_done(&places);
            }
        };
        self.disk.act(move || spool.append(&batch), undo).await.unwrap_or_else(|| Err(hangs()))
    }

    /// Reads settlements again, each with its place. `None`: the disk hangs.
    pub(crate) async fn load(&self, places: Vec<Place>) -> Option<Vec<(io::Result<Settlement>, Place)>> {
        if self.disk.is_stuck() {
            return None;
        }
        let load = move || places.into_iter().map(|place| (place.load(), place)).collect();
        self.disk.act(load, drop).await
    }

    /// The verdicts of these are known. What is not marked, since the disk hangs, is marked when it goes on; if the process
    /// ends before, it is settled once more.
    pub(crate) async fn done(self: &Arc<Self>, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        if !self.add_marks(places) {
            let spool = Arc::clone(self);
            self.disk.act(move || spool.mark_waiting(), drop).await;
        }
    }

    /// Takes over what dead owners left for this database. However long it takes: there may be much to read.
    pub(crate) async fn adopt_dead(self: &Arc<Self>) -> Adopted {
        let spool = Arc::clone(self);
        tokio::task::spawn_blocking(move || spool.adopt()).await.unwrap_or_default()
    }

    /// Lets go of `left`, of records to be left where they are, and of the own folder; what lies in it stays there.
    pub(crate) async fn close(self: &Arc<Self>, left: Vec<Place>) {
        let spool = Arc::clone(self);
        let close = move || {
            // The last to let go of a folder looks whether it is empty.
            drop(left);
            drop(spool.own().take());
        };
        self.disk.act(close, drop).await;
    }

    fn append(&self, batch: &Batch) -> io::Result<Vec<Place>> {
        let Some(base) = &self.base else { return Err(io::ErrorKind::NotFound.into()) };
        let mut own = self.own();
        if own.is_none() {
            let folder = Arc::new(Folder::create(base, self.owner)?);
            *own = Some(Own { folder, active: None, segments: 0 });
        }
        let own = own.as_mut().expect("it was made a line above");
        #[cfg(feature = "failpoints")]
        crate::faults::touch_disk();
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
        crash_point(CrashPoint::Spooled);
        Ok(places)
    }

    /// Has records marked. Says whether somebody is at it, who takes them along.
    fn add_marks(&self, places: Vec<Place>) -> bool {
        let mut marks = self.marks();
        marks.waiting.extend(places);
        std::mem::replace(&mut marks.is_under_way, true)
    }

    /// Marks what waits for it, and what comes meanwhile.
    fn mark_waiting(&self) {
        loop {
            let mut marks = self.marks();
            let places = std::mem::take(&mut marks.waiting);
            marks.is_under_way = !places.is_empty();
            drop(marks);
            if places.is_empty() {
                return;
            }
            self.mark_done(&places);
        }
    }

    fn mark_done(&self, places: &[Place]) {
        // Held, so that nothing is appended to a file that is about to go.
        let mut own = self.own();
        crash_point(CrashPoint::MarkingDone);
        for place in places {
            place.mark_done();
            crash_point(CrashPoint::MarkedDone);
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
                Ok(TakeOver::Done(folder)) => adopt::adopt(base, folder),
                Ok(TakeOver::OwnerLives) => {
                    all.with_owners += 1;
                    continue;
                }
                Ok(TakeOver::OtherAtIt) => {
                    all.with_others += 1;
                    continue;
                }
                Ok(TakeOver::Gone) => continue,
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
        if !all.places.is_empty() {
            crash_point(CrashPoint::TakenOver);
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

    fn marks(&self) -> MutexGuard<'_, Marks> {
        // Nothing that holds the lock can panic half way through a change.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_alone(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the spool makes of a disk that does not answer.
fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer")
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
