//! The history checker: joins what clients were told, what the database holds and what the upstream received, and
//! names every invariant that the three together break.
//!
//! It judges I1 (nothing acknowledged is lost), I2 (one valid lease per job), I3 (fenced writes), I4 (one end per
//! generation), I5 (no silent double billing), I6 (one job per key) and I7 (a paid answer is kept). It is itself tested
//! with histories that were corrupted on purpose. The types are here, the rules in `check`.

mod check;
mod taken_back;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sluice_domain::{IncarnationId, JobId, JobState, LeaseId, Outcome};

pub use self::{
    check::{Figures, check, figures},
    taken_back::{Standing, TakenBack},
};

/// What is to become of a job whose call may have been paid for without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenUnknown {
    /// It is called again, and the ledger says so.
    #[default]
    Repeat,
    /// It waits for a person; nothing is paid twice.
    Hold,
}

/// A submit that was acknowledged: the client's own name for the job, and the id it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The client's name for the job; the upstream sees it in the body.
    pub key: String,
    /// The id.
    pub job_id: JobId,
    /// What the client asked for.
    pub when_unknown: WhenUnknown,
}

/// A place where the database says that a job stands; a sound history has one for each job and generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The job.
    pub job_id: JobId,
    /// Which life of it.
    pub generation: u32,
    /// Where.
    pub state: JobState,
    /// The attempt whose word ended it, if it has ended by one.
    pub ended_by: Option<LeaseId>,
    /// Whether that word came after its lease had ended.
    pub is_late: bool,
}

/// An attempt on the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The job.
    pub job_id: JobId,
    /// The lease.
    pub lease_id: LeaseId,
    /// Which lease of the job.
    pub lease_no: u32,
    /// Who held the lease.
    pub incarnation: IncarnationId,
    /// When it was leased.
    pub begun_at: DateTime<Utc>,
    /// Which life of the job, where its end tells.
    pub generation: Option<u32>,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// When it ended, if it has.
    pub ended_at: Option<DateTime<Utc>>,
    /// The call, where the worker told of it.
    pub call_id: Option<String>,
}

/// A paid answer that came after its lease had ended, and was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateAnswer {
    /// The job.
    pub job_id: JobId,
    /// The attempt whose answer it is.
    pub lease_id: LeaseId,
    /// The call.
    pub call_id: Option<String>,
}

/// How the upstream saw a call end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallEnd {
    /// Answered, and the answer is final: another call for the same job is a repetition.
    AnsweredWell,
    /// Answered with an error or a finish that may be retried.
    AnsweredBadly,
    /// Cut while under way, or never heard of again.
    Cut,
}

/// A call as the upstream received it, in order of arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The client's name for the job, from the body.
    pub key: String,
    /// The caller's id of the call, from its header.
    pub call_id: Option<String>,
    /// When it had been read.
    pub arrived_at: DateTime<Utc>,
    /// How it ended.
    pub end: CallEnd,
}

/// The three records of one test.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// What clients were told.
    pub acknowledged: Vec<Acknowledged>,
    /// Submits of which the client never learned what became: their jobs may be there, and need not.
    pub never_told: BTreeSet<String>,
    /// Where jobs stand.
    pub places: Vec<Place>,
    /// Ends that were seen on the way: they must stand unchanged.
    pub seen_ends: Vec<Place>,
    /// The ledger.
    pub attempts: Vec<Attempt>,
    /// Answers that came late.
    pub late: Vec<LateAnswer>,
    /// Workers whose memory was lost, and with it the answers they had not written.
    pub killed: BTreeSet<IncarnationId>,
    /// What the upstream received, in order of arrival.
    pub calls: Vec<Call>,
    /// What a fail-over lost.
    pub taken_back: TakenBack,
}

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Violation {
    /// I1: acknowledged, and not there.
    Lost(JobId),
    /// I1: there, but neither ended nor held when all should have come to rest.
    NotEnded(JobId),
    /// I1: one id for two jobs: two clients were told it, or a fail-over had taken the first one back.
    IdTwice(JobId),
    /// I2: a lease id was given out twice.
    LeaseIdTwice(String),
    /// I2: two leases of a job have one number.
    LeaseNoTwice(JobId, u32),
    /// I3: the word of a lease that no longer was the job's ended it.
    StaleAccepted(JobId, LeaseId),
    /// I4: a job stands in two places in one generation.
    TwoPlaces(JobId, u32),
    /// I4: an end that was seen is another now, or gone.
    EndChanged(JobId, u32),
    /// I4: an attempt ended twice.
    AttemptEndedTwice(LeaseId),
    /// I5: more calls than begun attempts: how many more.
    CallNotOnLedger(JobId, usize),
    /// I5: so many calls were repeated, and only so many attempts say that they may have been.
    RepeatedSilently(JobId, usize, usize),
    /// I5: a job that was to be held was called again so many times.
    RepeatedDespiteHold(JobId, usize),
    /// I5: the upstream received a call for a job that nobody was told of.
    CallOfNobody(String),
    /// I6: one key, two jobs.
    KeyTwice(String),
    /// I7: so many answers were given in full to a worker that lived on, and are nowhere.
    AnswerLost(JobId, usize),
}
