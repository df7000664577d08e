//! Each rule is needed: without it the checker finds how a promise breaks.

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    action::Action,
    budget::{Left, NO_FAULTS},
    holds::{
        CLOCK, CUT_OFF, FAIL_OVER, HOLD, KILLED, OUTAGE, OUTAGES, PEOPLE, SLOW, STOPPED, TRIES, TWO_REAPERS,
    },
    properties as it,
    protocol::Protocol,
    rules::{Bounds, Rule},
};

/// Which promise each rule keeps, and the world where that is seen.
const NEEDED: &[(Rule, &str, Bounds)] = &[
    (Rule::LeaseTakesRow, it::I2_ONE_LEASE, STOPPED),
    (Rule::SettleNamesLease, it::I3_FENCED, STOPPED),
    (Rule::FenceIsNoCounter, it::I3_FENCED, FAIL_OVER),
    (Rule::BegunRowFirst, it::I5_BEGUN, STOPPED),
    (Rule::Brake, it::I5_OUTAGE, OUTAGE),
    (Rule::ClocksAgree, it::I11_BEATING, CLOCK),
    (Rule::DeadStayDead, it::I5_LEASED, STOPPED),
    (Rule::SelfFence, it::I5_LEASED, CUT_OFF),
    (Rule::ClockCountsSuspend, it::I5_LEASED, STOPPED),
    (Rule::AgeFromSending, it::I5_LEASED, SLOW),
    (Rule::LookAsksOwnIncarnation, it::I5_LEASED, STOPPED),
    (Rule::AgeTestedUnderLock, it::I11_BEATING, STOPPED),
    (Rule::ExpiryFenced, it::I4_LEGAL, TWO_REAPERS),
    (Rule::LostCountsAsCrash, it::I9_POISON, THREE_CRASHES),
    (Rule::HoldAtExpiry, it::I5_HOLD, HOLD),
    (Rule::RepeatRecognised, it::I3_TOLD_TRUE, TRIES),
    (Rule::LateOnlyIfNotLeasedSince, it::I3_LATE, STOPPED),
    (Rule::LateOnlyInGeneration, it::I3_LATE, PEOPLE),
    (Rule::StraysBetweenLeaseCalls, it::I3_TOLD_TRUE, STOPPED),
    (Rule::StraysBetweenLeaseCalls, it::I5_MARKED, STOPPED),
    (Rule::StrayWasNeverBegun, it::I5_MARKED, FAIL_OVER),
    (Rule::UnknownIsMarked, it::I5_MARKED, TRIES),
    (Rule::ReplayIsNewGeneration, it::I4_ONE_END, PEOPLE),
    (Rule::BeatBetweenOutages, it::I5_OUTAGE, OUTAGES),
];

/// One worker dies, the other is taken for dead, and its next life dies too.
const THREE_CRASHES: Bounds =
    Bounds { leases: 3, incarnations: 4, faults: Left { kills: 2, stops: 1, ..NO_FAULTS }, ..KILLED };

/// How the promise breaks without the rule: the steps that lead there.
fn counter_example(rule: Rule, promise: &'static str, bounds: Bounds) -> Option<Vec<Action>> {
    let protocol = Protocol { bounds, without: Some(rule), examples: &[] };
    let condition = protocol.property(promise).condition;
    let checker =
        protocol.clone().checker().finish_when(HasDiscoveries::AnyOf([promise].into())).spawn_bfs().join();
    let path = checker.discovery(promise)?.into_vec();
    // The checker tells of the last of those that it came upon at once; what comes after the break says nothing.
    let broken = path.iter().take_while(|(world, _)| condition(&protocol, world)).count();
    Some(path.into_iter().take(broken).filter_map(|(_, action)| action).collect())
}

#[test]
fn without_any_one_rule_a_promise_breaks() {
    let mut needless = Vec::new();
    for (rule, promise, bounds) in NEEDED {
        match counter_example(*rule, promise, bounds.clone()) {
            Some(steps) => println!("without {rule:?}, {promise} breaks in {} steps: {steps:?}", steps.len()),
            None => needless.push((rule, promise)),
        }
    }
    assert!(needless.is_empty(), "nothing breaks without {needless:?}");
}

#[test]
fn every_rule_is_taken_out_once() {
    let missing: Vec<&Rule> =
        Rule::ALL.iter().filter(|rule| NEEDED.iter().all(|(it, ..)| it != *rule)).collect();
    assert!(missing.is_empty(), "no world shows what {missing:?} are needed for");
}
