//! The rules of the protocol that can be taken out, one at a time, and the bounds of a check.

use sluice_domain::OnUnknown;

use crate::budget::Left;

/// A rule. With all of them the promises hold; without any one of them some promise must break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// A lease takes the job's row out of the queue, so that no other can lease it.
    LeaseTakesRow,
    /// A settle writes only where the job runs under exactly its lease.
    SettleNamesLease,
    /// The lease's random id is the fence, not its number.
    FenceIsNoCounter,
    /// The begun row is written with the lease.
    BegunRowFirst,
    /// A reaper marks nobody after an outage until a TTL has passed.
    Brake,
    /// A reaper compares the database's clock with its own.
    ClocksAgree,
    /// A beat on a dead row is refused.
    DeadStayDead,
    /// No call starts when the worker's own lease is nearly over.
    SelfFence,
    /// The worker's own clock goes on while it is suspended.
    ClockCountsSuspend,
    /// The own clock counts from a beat's sending, not from its acknowledgement.
    AgeFromSending,
    /// The last look asks for the lease's own incarnation, not for the worker's present one.
    LookAsksOwnIncarnation,
    /// The age of a beat is tested on the locked row.
    AgeTestedUnderLock,
    /// What expires is what runs under the dead incarnation at that moment, not what was listed before.
    ExpiryFenced,
    /// Each lost lease counts as a crash.
    LostCountsAsCrash,
    /// With `on_unknown: hold` an expired lease holds its job.
    HoldAtExpiry,
    /// A repeated settle is recognised by its lease on the ledger.
    RepeatRecognised,
    /// A late success ends no job that was leased since.
    LateOnlyIfNotLeasedSince,
    /// A late success ends a job of its own generation only.
    LateOnlyInGeneration,
    /// Strays are looked for only while no lease call is under way.
    StraysBetweenLeaseCalls,
    /// A stray whose call was begun, once, is settled as unknown, not given back as not sent.
    StrayWasNeverBegun,
    /// What was sent is never written as not sent.
    UnknownIsMarked,
    /// A replay is a new generation.
    ReplayIsNewGeneration,
    /// Not a rule but an assumption: between two outages every healthy worker beats.
    BeatBetweenOutages,
}

impl Rule {
    /// Every rule.
    pub(crate) const ALL: &'static [Self] = &[
        Self::LeaseTakesRow,
        Self::SettleNamesLease,
        Self::FenceIsNoCounter,
        Self::BegunRowFirst,
        Self::Brake,
        Self::ClocksAgree,
        Self::DeadStayDead,
        Self::SelfFence,
        Self::ClockCountsSuspend,
        Self::AgeFromSending,
        Self::LookAsksOwnIncarnation,
        Self::AgeTestedUnderLock,
        Self::ExpiryFenced,
        Self::LostCountsAsCrash,
        Self::HoldAtExpiry,
        Self::RepeatRecognised,
        Self::LateOnlyIfNotLeasedSince,
        Self::LateOnlyInGeneration,
        Self::StraysBetweenLeaseCalls,
        Self::StrayWasNeverBegun,
        Self::UnknownIsMarked,
        Self::ReplayIsNewGeneration,
        Self::BeatBetweenOutages,
    ];
}

/// How large a world is checked.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) jobs: usize,
    pub(crate) workers: usize,
    pub(crate) reapers: usize,
    /// Whether the reapers just started; else their brakes are off.
    pub(crate) reapers_are_new: bool,
    /// Leases of all jobs together.
    pub(crate) leases: usize,
    pub(crate) incarnations: usize,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) faults: Left,
}
