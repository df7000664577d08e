//! What the model knows at one moment: the database, the leases in workers' hands, workers, reapers, and what is left
//! of the faults.
//!
//! Time is ticks of a third of the lease's TTL (5 s of the default 15). Only ages are kept, and none grows beyond what
//! a rule asks for, so that time itself is without end and the states are finite.

use sluice_domain::{HoldReason, JobState, Outcome};

use crate::{
    budget::Left,
    process::{Hand, Life, Reaper, Worker},
};

/// How old a beat may be, in ticks.
pub(crate) const TTL: u8 = 3;
/// A call may start until its worker's own age is over this: two ticks are 10 s, four fifths of a TTL are 12 s.
pub(crate) const START_WITHIN: u8 = 2;
/// A healthy worker beats before a tick takes its age beyond this.
pub(crate) const BEAT_DUE: u8 = 1;
/// So many crashes hold a job. The database says three; two make the same story shorter.
pub(crate) const POISON_AT: u8 = 2;
/// Tries of a job.
pub(crate) const MAX_ATTEMPTS: u8 = 2;

/// Everything at one moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) db: Database,
    /// What an asynchronous standby holds, where one is modelled.
    pub(crate) standby: Option<Box<Database>>,
    /// By lease: what its worker does about it, and what became of its call.
    pub(crate) hands: Vec<Hand>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) reapers: Vec<Reaper>,
    pub(crate) left: Left,
    pub(crate) seen: Seen,
}

/// The tables.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Database {
    pub(crate) is_away: bool,
    pub(crate) jobs: Vec<Job>,
    /// By lease: `running`, `cancelled_leases`, both halves of the ledger, `late_results`.
    pub(crate) leases: Vec<Option<LeaseRow>>,
    pub(crate) incarnations: Vec<Option<IncarnationRow>>,
}

/// The places where one job can stand, but for `running`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Job {
    pub(crate) is_submitted: bool,
    pub(crate) ready: Option<Waiting>,
    pub(crate) held: Option<(Waiting, HoldReason)>,
    /// `done`: how each generation ended.
    pub(crate) ends: Vec<JobState>,
}

/// What moves with a job from row to row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Waiting {
    pub(crate) generation: u8,
    pub(crate) lease_no: u8,
    pub(crate) tries: u8,
    pub(crate) crashes: u8,
}

/// All rows of one lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LeaseRow {
    pub(crate) job: usize,
    pub(crate) incarnation: usize,
    /// A row in `running`, with what moves on.
    pub(crate) running: Option<Waiting>,
    pub(crate) lease_no: u8,
    pub(crate) generation: u8,
    /// A row in `cancelled_leases`.
    pub(crate) is_cancelled: bool,
    pub(crate) is_begun: bool,
    pub(crate) ended: Option<Outcome>,
    pub(crate) late: Late,
}

/// Whether `late_results` has an answer, and whether it ended its job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Late {
    No,
    Kept,
    Accepted,
}

/// A row of `incarnations`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct IncarnationRow {
    pub(crate) worker: usize,
    /// By the database's clock.
    pub(crate) beat_age: u8,
    pub(crate) is_dead: bool,
}

/// What the checker remembers beside the state.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Seen {
    /// By job: calls that repeated an earlier one.
    pub(crate) repeated: Vec<u8>,
    /// By job: how often a person released it.
    pub(crate) released: Vec<u8>,
    /// By job: leases lost in this generation since the last release.
    pub(crate) lost: Vec<u8>,
    /// Something beside the database went wrong.
    pub(crate) other_faults: bool,
    /// What must never happen, and did.
    pub(crate) wrongs: Vec<Wrong>,
}

/// A thing that must never happen, seen as it happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Wrong {
    /// A write about a run went to another lease's row, or to a job that stands elsewhere.
    WroteOverLease,
    /// A late answer ended a job that had been leased since.
    LateOverLease,
    IllegalEdge,
    SecondEnd,
    /// The first byte left before the begun row was written.
    CallWithoutBegunRow,
    /// A call was begun under a lease that had ended.
    StartedWithoutLease,
    /// A worker that beats lost its leases.
    ExpiredThoughBeating,
    /// What was settled was called late or stale, or a paid answer was dropped.
    Misled,
}

impl World {
    /// Notes that something happened that must not.
    pub(crate) fn wrong(&mut self, wrong: Wrong) {
        if !self.seen.wrongs.contains(&wrong) {
            self.seen.wrongs.push(wrong);
            self.seen.wrongs.sort_unstable_by_key(|wrong| *wrong as u8);
        }
    }

    pub(crate) fn has_wrong(&self, wrong: Wrong) -> bool {
        self.seen.wrongs.contains(&wrong)
    }

    /// Whether the worker can reach the database and go on.
    pub(crate) fn reaches_database(&self, worker: usize) -> bool {
        self.workers[worker].life == Life::Up && !self.db.is_away
    }
}

impl Database {
    /// The lease that runs the job.
    pub(crate) fn runs(&self, job: usize) -> impl Iterator<Item = usize> {
        self.leases
            .iter()
            .enumerate()
            .filter(move |(_, row)| row.as_ref().is_some_and(|row| row.job == job && row.running.is_some()))
            .map(|(lease, _)| lease)
    }

    /// Where the job stands; the first of them, should it stand in several places.
    pub(crate) fn state(&self, job: usize) -> Option<JobState> {
        let row = &self.jobs[job];
        if self.runs(job).next().is_some() {
            Some(JobState::Running)
        } else if row.ready.is_some() {
            Some(JobState::Queued)
        } else if row.held.is_some() {
            Some(JobState::Held)
        } else {
            row.ends.last().copied()
        }
    }

    pub(crate) fn row(&self, lease: usize) -> Option<&LeaseRow> {
        self.leases.get(lease).and_then(Option::as_ref)
    }

    pub(crate) fn row_mut(&mut self, lease: usize) -> Option<&mut LeaseRow> {
        self.leases.get_mut(lease).and_then(Option::as_mut)
    }

    /// Whether the incarnation is there and not marked dead.
    pub(crate) fn is_alive(&self, incarnation: usize) -> bool {
        self.incarnations.get(incarnation).and_then(Option::as_ref).is_some_and(|row| !row.is_dead)
    }
}

impl LeaseRow {
    /// Whether the answer of this attempt is there to be read.
    pub(crate) fn holds_answer(&self) -> bool {
        self.ended == Some(Outcome::Succeeded) || self.late != Late::No
    }
}
