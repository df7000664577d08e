//! With all of its rules the protocol keeps its promises. Each test is one world with its own faults: all of them at
//! once would be too many states.

use sluice_domain::OnUnknown;
use stateright::{Checker, Model};

use crate::{
    budget::{Left, NO_FAULTS},
    properties as it,
    protocol::Protocol,
    rules::Bounds,
};

/// One job, two workers that live three times at most, one reaper.
pub(crate) const SMALL: Bounds = Bounds {
    jobs: 1,
    workers: 2,
    reapers: 1,
    reapers_are_new: false,
    leases: 2,
    incarnations: 3,
    on_unknown: OnUnknown::Retry,
    faults: NO_FAULTS,
};

pub(crate) const STOPPED: Bounds =
    Bounds { leases: 3, faults: Left { stops: 1, lost_answers: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const KILLED: Bounds =
    Bounds { leases: 3, faults: Left { kills: 2, bad_calls: 1, errors: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const PEOPLE: Bounds =
    Bounds { faults: Left { cancels: 1, replays: 1, lost_answers: 1, deadlines: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const TRIES: Bounds =
    Bounds { leases: 3, faults: Left { errors: 2, bad_calls: 1, lost_answers: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const HOLD: Bounds = Bounds {
    on_unknown: OnUnknown::Hold,
    faults: Left { stops: 1, bad_calls: 1, releases: 1, ..NO_FAULTS },
    ..SMALL
};
pub(crate) const OUTAGE: Bounds =
    Bounds { reapers: 2, faults: Left { outages: 1, lost_answers: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const OUTAGES: Bounds = Bounds { faults: Left { outages: 2, ..NO_FAULTS }, ..SMALL };
pub(crate) const CLOCK: Bounds = Bounds { reapers: 2, faults: Left { clock_jumps: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const CUT_OFF: Bounds = Bounds { faults: Left { cuts: 1, outages: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const SLOW: Bounds = Bounds { faults: Left { slow_beats: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const NEW_REAPERS: Bounds =
    Bounds { reapers_are_new: true, faults: Left { stops: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const TWO_REAPERS: Bounds = Bounds { reapers: 2, faults: Left { stops: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const FAIL_OVER: Bounds = Bounds { faults: Left { fail_overs: 1, ..NO_FAULTS }, ..SMALL };
pub(crate) const TWO_JOBS: Bounds =
    Bounds { jobs: 2, incarnations: 2, faults: Left { stops: 1, ..NO_FAULTS }, ..SMALL };

/// Checks every promise in every reachable state, and that the examples are reached.
fn check(bounds: Bounds, examples: &'static [&'static str]) {
    let checker = Protocol { bounds, without: None, examples }.checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states, up to {depth} steps deep");
    checker.assert_properties();
}

#[test]
fn a_stopped_worker_writes_nothing_over_the_next_lease() {
    check(
        STOPPED,
        &[
            it::LOST,
            it::REPEATED,
            it::LATE_ACCEPTED,
            it::LATE_KEPT,
            it::ALREADY_SETTLED,
            it::HANDED_BACK,
            it::RENEWED,
        ],
    );
}

#[test]
fn killed_workers_lose_their_leases_and_poison_is_held() {
    check(KILLED, &[it::LOST, it::HELD_POISON, it::REPEATED]);
}

#[test]
fn cancel_and_replay_race_with_leases_and_settles() {
    check(PEOPLE, &[it::LET_GO, it::REPLAYED, it::DEADLINE, it::LATE_KEPT, it::HANDED_BACK]);
}

#[test]
fn a_job_runs_out_of_tries() {
    check(TRIES, &[it::FAILED, it::REPEATED, it::ALREADY_SETTLED]);
}

#[test]
fn a_job_that_says_hold_is_repeated_by_a_person_only() {
    check(HOLD, &[it::HELD_UNKNOWN, it::RELEASED, it::REPEATED, it::STALE, it::LATE_ACCEPTED]);
}

#[test]
fn an_outage_repeats_no_call() {
    check(OUTAGE, &[it::BRAKED, it::HANDED_BACK, it::ALREADY_SETTLED]);
}

#[test]
fn a_second_outage_repeats_no_call_if_workers_beat_in_between() {
    check(OUTAGES, &[it::BRAKED]);
}

#[test]
fn a_jump_of_the_clock_repeats_no_call() {
    check(CLOCK, &[it::BRAKED]);
}

#[test]
fn a_worker_that_is_cut_off_starts_no_call_after_its_lease() {
    check(CUT_OFF, &[it::BRAKED, it::LOST, it::LATE_KEPT, it::HANDED_BACK]);
}

#[test]
fn a_slow_acknowledgement_makes_no_lease_longer() {
    check(SLOW, &[it::LOST, it::HANDED_BACK]);
}

#[test]
fn a_reaper_that_just_started_marks_nobody() {
    check(NEW_REAPERS, &[it::BRAKED, it::LOST]);
}

#[test]
fn two_reapers_expire_a_lease_once() {
    check(TWO_REAPERS, &[it::LOST, it::LATE_ACCEPTED, it::LATE_KEPT]);
}

#[test]
fn a_fail_over_that_loses_rows_lets_no_stale_lease_write() {
    check(FAIL_OVER, &[it::WRITTEN_ANEW, it::SAME_NUMBER, it::LATE_KEPT]);
}

#[test]
fn two_jobs_of_one_worker_are_lost_together() {
    check(TWO_JOBS, &[it::LOST, it::LATE_ACCEPTED]);
}
