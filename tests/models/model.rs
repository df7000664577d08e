//! What the model knows: jobs, leases, workers and keys, and what is shown of them.

use std::collections::BTreeMap;

use sluice_domain::{ErrorClass, HoldReason, JobState, Outcome, SettleVerdict};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};

/// Queues of a sequence.
pub const QUEUES: usize = 2;

/// A job as somebody submits it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewJob {
    pub queue: usize,
    pub priority: u8,
    pub key: Option<u8>,
    pub content: u8,
    /// `on_unknown: hold`.
    pub holds: bool,
    pub has_deadline: bool,
    pub is_for_later: bool,
}

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Queued(Turn),
    /// Under this lease.
    Running(usize),
    Held(HoldReason),
    Ended(JobState),
}

/// When a queued job's turn is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Whether it can run now. What waits for a time waits longer than a sequence lasts.
    pub is_due: bool,
    /// What came back goes before what is fresh.
    pub is_fresh: bool,
    /// By the model's clock.
    pub since: u64,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub new: NewJob,
    pub place: Place,
    pub generation: u32,
    pub lease_no: u32,
    pub tries: u16,
    pub crashes: u16,
    pub refusals: u16,
    pub is_past_deadline: bool,
    /// The lease that ended this generation.
    pub ended_by: Option<usize>,
    /// The class with which it failed.
    pub failure: Option<ErrorClass>,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the ledger's own word")]
pub struct Lease {
    pub job: usize,
    pub worker: usize,
    pub generation: u32,
    pub lease_no: u32,
    /// How its attempt ended on the ledger.
    pub outcome: Option<Outcome>,
    pub error: Option<ErrorClass>,
    /// Its job was cancelled, and its worker has not let go.
    pub is_cancelled: bool,
    /// The answer that was settled with it in time.
    pub answer: Option<String>,
    /// The answer that came too late, and when.
    pub late_answer: Option<(u64, String)>,
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub is_dead: bool,
    pub isolates_suspects: bool,
}

/// What became of one submitted job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Submitted {
    Created(usize),
    Existing(usize),
    Refused,
}

/// What a lease says of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leased {
    pub job: usize,
    pub generation: u32,
    pub lease_no: u32,
    pub tries: u16,
    pub crashes: u16,
    pub refusals: u16,
}

/// What the product has to answer to an action.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Answer {
    #[default]
    Nothing,
    Submitted(Vec<Submitted>),
    /// One bad element refused all.
    AllRefused,
    Cancelled(CancelOutcome),
    Replayed(ReplayOutcome),
    Released(ReleaseOutcome),
    /// In the order of their turns.
    Leased(Vec<Leased>),
    /// The incarnation is dead.
    Dead,
    /// So many leases ended or went back.
    Leases(usize),
    Verdicts(Vec<SettleVerdict>),
}

/// What is shown of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub state: JobState,
    pub hold_reason: Option<HoldReason>,
    pub generation: u32,
    pub tries: u16,
    pub crashes: u16,
    pub error: Option<ErrorClass>,
    /// The answer, and whether it came late.
    pub result: Option<(String, bool)>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub jobs: Vec<Job>,
    pub leases: Vec<Lease>,
    pub workers: Vec<Worker>,
    pub is_paused: [bool; QUEUES],
    pub keys: BTreeMap<u8, usize>,
    /// Counts actions.
    pub clock: u64,
    /// What the last action has to be answered with.
    pub answer: Answer,
}

impl Model {
    pub fn state(&self, job: usize) -> JobState {
        match self.jobs[job].place {
            Place::Queued(_) => JobState::Queued,
            Place::Running(_) => JobState::Running,
            Place::Held(_) => JobState::Held,
            Place::Ended(state) => state,
        }
    }

    /// What every door shows of a job.
    pub fn shown(&self, number: usize) -> Shown {
        let job = &self.jobs[number];
        Shown {
            state: self.state(number),
            hold_reason: match job.place {
                Place::Held(reason) => Some(reason),
                _ => None,
            },
            generation: job.generation,
            tries: job.tries,
            crashes: job.crashes,
            error: self.error(number),
            result: self.result(number),
        }
    }

    /// The leases of a job so far, oldest first.
    pub fn leases_of(&self, job: usize) -> impl Iterator<Item = (usize, &Lease)> {
        self.leases.iter().enumerate().filter(move |(_, lease)| lease.job == job)
    }

    /// Jobs of a queue: waiting, running, held.
    pub fn depth(&self, queue: usize) -> [u64; 3] {
        let count = |state| {
            let of_queue = self.jobs.iter().enumerate().filter(|(_, job)| job.new.queue == queue);
            of_queue.filter(|(number, _)| self.state(*number) == state).count() as u64
        };
        [count(JobState::Queued), count(JobState::Running), count(JobState::Held)]
    }

    /// Of a job that waits, its last attempt's error.
    fn error(&self, number: usize) -> Option<ErrorClass> {
        let job = &self.jobs[number];
        match job.place {
            Place::Queued(_) | Place::Held(_) => {
                let of_generation = self.leases_of(number).filter(|(_, l)| l.generation == job.generation);
                of_generation.last().and_then(|(_, lease)| lease.error)
            }
            Place::Ended(JobState::Cancelled) => Some(ErrorClass::Cancelled),
            Place::Ended(JobState::Failed) => job.failure,
            _ => None,
        }
    }

    /// The answer that ended it; where it ended without one, an answer that came late: of several, that of the lease
    /// that ended it, else the first.
    fn result(&self, number: usize) -> Option<(String, bool)> {
        let job = &self.jobs[number];
        let Place::Ended(_) = job.place else { return None };
        if let Some(answer) = job.ended_by.and_then(|lease| self.leases[lease].answer.clone()) {
            return Some((answer, false));
        }
        let late = self.leases_of(number).filter(|(_, lease)| lease.generation == job.generation);
        let late = late.filter_map(|(lease, l)| Some((lease, l.late_answer.clone()?)));
        let first = late.min_by_key(|(lease, (at, _))| (Some(*lease) != job.ended_by, *at));
        first.map(|(_, (_, answer))| (answer, true))
    }
}
