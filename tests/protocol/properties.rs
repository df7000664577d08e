//! What must always hold, and what must sometimes happen.

use sluice_domain::{HoldReason, JobState, OnUnknown, Outcome, SettleVerdict};
use stateright::Property;

use crate::{
    process::{Phase, Told},
    protocol::Protocol,
    world::{Late, POISON_AT, TTL, World, Wrong},
};

pub(crate) const I2_ONE_LEASE: &str = "I2: at most one lease of a job is valid";
pub(crate) const I3_FENCED: &str = "I3: a write about a run goes to the lease that it names";
pub(crate) const I3_LATE: &str = "I3: a late answer ends no job that was leased since";
pub(crate) const I3_TOLD_TRUE: &str =
    "I3: a repeated settle is neither stale nor late, and no paid answer is dropped";
pub(crate) const I4_ONE_END: &str = "I4: a generation ends once";
pub(crate) const I4_LEGAL: &str = "I4: a job moves along legal edges and stands in one place";
pub(crate) const I5_BEGUN: &str = "I5: a call has its begun row before its first byte";
pub(crate) const I5_MARKED: &str = "I5: repeated calls are at most the attempts unknown or lost";
pub(crate) const I5_OUTAGE: &str = "I5: a fault of the database alone repeats no call";
pub(crate) const I5_HOLD: &str = "I5: with hold, only a release repeats a call";
pub(crate) const I5_LEASED: &str = "I5: no call is begun under a lease that has ended";
pub(crate) const I9_POISON: &str = "I9: so many crashes and no more";
pub(crate) const I11_BEATING: &str = "I11: a worker that beats loses no lease";

/// What must hold in every world.
pub(crate) fn promises() -> Vec<Property<Protocol>> {
    vec![
        Property::always(I2_ONE_LEASE, |_, world: &World| {
            (0..world.db.jobs.len()).all(|job| world.db.runs(job).count() <= 1)
        }),
        Property::always(I3_FENCED, |_, world: &World| !world.has_wrong(Wrong::WroteOverLease)),
        Property::always(I3_LATE, |_, world: &World| !world.has_wrong(Wrong::LateOverLease)),
        Property::always(I3_TOLD_TRUE, |_, world: &World| !world.has_wrong(Wrong::Misled)),
        Property::always(I4_ONE_END, |_, world: &World| !world.has_wrong(Wrong::SecondEnd)),
        Property::always(I4_LEGAL, |_, world: &World| {
            !world.has_wrong(Wrong::IllegalEdge)
                && (0..world.db.jobs.len()).all(|job| stands_once(world, job))
        }),
        Property::always(I5_BEGUN, |_, world: &World| !world.has_wrong(Wrong::CallWithoutBegunRow)),
        Property::always(I5_MARKED, |_, world: &World| {
            (0..world.db.jobs.len()).all(|job| usize::from(world.seen.repeated[job]) <= marked(world, job))
        }),
        Property::always(I5_OUTAGE, |_, world: &World| {
            world.seen.other_faults || world.seen.repeated.iter().all(|repeated| *repeated == 0)
        }),
        Property::always(I5_HOLD, |protocol: &Protocol, world: &World| {
            protocol.bounds.on_unknown != OnUnknown::Hold
                || world.seen.repeated.iter().zip(&world.seen.released).all(|(repeated, of)| repeated <= of)
        }),
        Property::always(I5_LEASED, |_, world: &World| !world.has_wrong(Wrong::StartedWithoutLease)),
        Property::always(I9_POISON, |_, world: &World| world.seen.lost.iter().all(|lost| *lost <= POISON_AT)),
        Property::always(I11_BEATING, |_, world: &World| !world.has_wrong(Wrong::ExpiredThoughBeating)),
    ]
}

/// Attempts of the job that the ledger marks as unknown or lost.
fn marked(world: &World, job: usize) -> usize {
    let rows = world.db.leases.iter().flatten().filter(|row| row.job == job);
    rows.filter(|row| matches!(row.ended, Some(Outcome::Unknown | Outcome::Lost))).count()
}

fn stands_once(world: &World, job: usize) -> bool {
    let row = &world.db.jobs[job];
    let places =
        world.db.runs(job).count() + usize::from(row.ready.is_some()) + usize::from(row.held.is_some());
    places <= 1
}

pub(crate) const LATE_ACCEPTED: &str = "a late answer ends its job";
pub(crate) const LATE_KEPT: &str = "a late answer is kept";
pub(crate) const ALREADY_SETTLED: &str = "a settle is repeated";
pub(crate) const STALE: &str = "a settle is stale";
pub(crate) const HELD_UNKNOWN: &str = "a job is held for an unknown outcome";
pub(crate) const HELD_POISON: &str = "a job is held as poison";
pub(crate) const RELEASED: &str = "a released job succeeds";
pub(crate) const BRAKED: &str = "a brake saves a worker whose beat is too old";
pub(crate) const REPEATED: &str = "a call is repeated";
pub(crate) const LOST: &str = "a lease is lost";
pub(crate) const HANDED_BACK: &str = "a lease is given back";
pub(crate) const LET_GO: &str = "a call is let go after a cancel";
pub(crate) const REPLAYED: &str = "a replayed job succeeds";
pub(crate) const FAILED: &str = "a job runs out of tries";
pub(crate) const RENEWED: &str = "a worker goes on as a new incarnation, and its old call is under way";
pub(crate) const WRITTEN_ANEW: &str = "an answer whose rows a fail-over took is written anew";
pub(crate) const SAME_NUMBER: &str = "after a fail-over two leases have one number";
pub(crate) const DEADLINE: &str = "a deadline ends a job that waits";

/// What must happen in some world, by name.
pub(crate) fn examples(wanted: &'static [&'static str]) -> Vec<Property<Protocol>> {
    all_examples().into_iter().filter(|example| wanted.contains(&example.name)).collect()
}

fn all_examples() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(LATE_ACCEPTED, |_, world: &World| any_late(world, Late::Accepted)),
        Property::sometimes(LATE_KEPT, |_, world: &World| any_late(world, Late::Kept)),
        Property::sometimes(ALREADY_SETTLED, |_, world: &World| {
            was_told(world, SettleVerdict::AlreadySettled)
        }),
        Property::sometimes(STALE, |_, world: &World| was_told(world, SettleVerdict::Stale)),
        Property::sometimes(HELD_UNKNOWN, |_, world: &World| is_held(world, HoldReason::UnknownOutcome)),
        Property::sometimes(HELD_POISON, |_, world: &World| is_held(world, HoldReason::Poison)),
        Property::sometimes(RELEASED, |_, world: &World| {
            world.seen.released.contains(&1) && ended(world, JobState::Succeeded)
        }),
        Property::sometimes(BRAKED, |_, world: &World| {
            let is_old = world.db.incarnations.iter().flatten().any(|row| row.beat_age >= TTL);
            is_old && world.reapers.iter().any(|reaper| reaper.brake == TTL)
        }),
        Property::sometimes(REPEATED, |_, world: &World| {
            world.seen.repeated.iter().any(|repeated| *repeated > 0)
        }),
        Property::sometimes(LOST, |_, world: &World| has_outcome(world, Outcome::Lost)),
        Property::sometimes(HANDED_BACK, |_, world: &World| has_outcome(world, Outcome::NotSent)),
        Property::sometimes(LET_GO, |_, world: &World| has_outcome(world, Outcome::Cancelled)),
        Property::sometimes(REPLAYED, |_, world: &World| {
            world.db.jobs.iter().any(|job| job.ends.len() > 1 && job.ends[1] == JobState::Succeeded)
        }),
        Property::sometimes(FAILED, |_, world: &World| ended(world, JobState::Failed)),
        Property::sometimes(RENEWED, |_, world: &World| {
            world.hands.iter().any(|hand| {
                hand.phase == Phase::Sent && world.workers[hand.worker].incarnation != hand.incarnation
            })
        }),
        Property::sometimes(WRITTEN_ANEW, |_, world: &World| {
            world.hands.iter().zip(&world.db.leases).any(|(hand, row)| hand.is_forgotten && row.is_some())
        }),
        Property::sometimes(SAME_NUMBER, |_, world: &World| {
            world.hands.iter().enumerate().any(|(number, hand)| {
                let earlier = &world.hands[..number];
                earlier.iter().any(|one| (one.job, one.lease_no) == (hand.job, hand.lease_no))
            })
        }),
        Property::sometimes(DEADLINE, |_, world: &World| {
            world.hands.is_empty() && ended(world, JobState::Failed)
        }),
    ]
}

fn any_late(world: &World, late: Late) -> bool {
    world.db.leases.iter().flatten().any(|row| row.late == late)
}

fn was_told(world: &World, verdict: SettleVerdict) -> bool {
    world.hands.iter().any(|hand| hand.phase == Phase::Told(Told(verdict)))
}

fn is_held(world: &World, reason: HoldReason) -> bool {
    world.db.jobs.iter().any(|job| job.held.is_some_and(|(_, why)| why == reason))
}

fn has_outcome(world: &World, outcome: Outcome) -> bool {
    world.db.leases.iter().flatten().any(|row| row.ended == Some(outcome))
}

fn ended(world: &World, state: JobState) -> bool {
    world.db.jobs.iter().any(|job| job.ends.last() == Some(&state))
}
