//! The rules of the checker. Each is a function over a whole history.

use std::collections::{BTreeMap, BTreeSet};

use sluice_domain::{JobId, JobState, Outcome};

use super::{Attempt, Call, CallEnd, History, Place, TakenBack, Violation, WhenUnknown};

/// What a sound history may hold, but a good one holds little of; and how often rules were broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Jobs that were acknowledged.
    pub jobs: usize,
    /// Acknowledged jobs that are not there, or never came to rest.
    pub lost: usize,
    /// Ends that were written twice or changed.
    pub double_ends: usize,
    /// Ends by a lease that no longer was the job's.
    pub stale_accepted: usize,
    /// Calls that the upstream received.
    pub calls: usize,
    /// Calls that follow one that was answered well or cut.
    pub repeated: usize,
    /// Repeated calls that no attempt explains, and calls that no attempt stands for.
    pub repeated_not_on_ledger: usize,
    /// Attempts whose outcome is unknown or lost.
    pub unknown_or_lost: usize,
    /// Answers that came late and were kept.
    pub late_kept: usize,
    /// Answers that a living worker got and nobody kept.
    pub late_lost: usize,
}

/// Checks a history after everything came to rest.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = BTreeSet::new();
    let jobs = check_acknowledgements(history, &mut violations);
    check_places(history, &mut violations);
    check_leases(history, &mut violations);
    let attempts = attempts_by_job(history);
    check_ends(history, &attempts, &mut violations);
    check_calls(history, &jobs, &attempts, &mut violations);
    check_answers(history, &jobs, &attempts, &mut violations);
    violations.into_iter().collect()
}

/// Counts a history for the report of a test.
pub fn figures(history: &History) -> Figures {
    let jobs: BTreeSet<JobId> = history.acknowledged.iter().map(|told| told.job_id).collect();
    let mut figures = Figures {
        jobs: jobs.len(),
        calls: history.calls.len(),
        repeated: calls_by_key(history).values().map(|calls| repeated(calls)).sum(),
        unknown_or_lost: history.attempts.iter().filter(|attempt| may_have_called(attempt)).count(),
        late_kept: history.late.len(),
        ..Figures::default()
    };
    for violation in check(history) {
        match violation {
            Violation::Lost(_) | Violation::NotEnded(_) => figures.lost += 1,
            Violation::TwoPlaces(..) | Violation::EndChanged(..) | Violation::AttemptEndedTwice(_) => {
                figures.double_ends += 1;
            }
            Violation::StaleAccepted(..) => figures.stale_accepted += 1,
            Violation::CallNotOnLedger(_, more) => figures.repeated_not_on_ledger += more,
            Violation::RepeatedSilently(_, calls, explained) => {
                figures.repeated_not_on_ledger += calls - explained;
            }
            Violation::AnswerLost(_, answers) => figures.late_lost += answers,
            Violation::IdTwice(_)
            | Violation::LeaseIdTwice(_)
            | Violation::LeaseNoTwice(..)
            | Violation::RepeatedDespiteHold(..)
            | Violation::CallOfNobody(_)
            | Violation::KeyTwice(_) => {}
        }
    }
    figures
}

fn check_acknowledgements<'a>(
    history: &'a History,
    violations: &mut BTreeSet<Violation>,
) -> BTreeMap<&'a str, JobId> {
    let mut latest: BTreeMap<JobId, &Place> = BTreeMap::new();
    for place in &history.places {
        let known = latest.entry(place.job_id).or_insert(place);
        if place.generation >= known.generation {
            *known = place;
        }
    }
    let (mut jobs, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let taken = &history.taken_back.jobs;
    violations
        .extend(taken.keys().filter(|job| latest.contains_key(job)).map(|job| Violation::IdTwice(*job)));
    for told in &history.acknowledged {
        match latest.get(&told.job_id) {
            None if taken.contains_key(&told.job_id) => {}
            None => drop(violations.insert(Violation::Lost(told.job_id))),
            Some(place) if !place.state.is_terminal() && place.state != JobState::Held => {
                violations.insert(Violation::NotEnded(told.job_id));
            }
            Some(_) => {}
        }
        if jobs.insert(told.key.as_str(), told.job_id).is_some_and(|other| other != told.job_id) {
            violations.insert(Violation::KeyTwice(told.key.clone()));
        }
        if keys.insert(told.job_id, told.key.as_str()).is_some_and(|other| other != told.key) {
            violations.insert(Violation::IdTwice(told.job_id));
        }
    }
    jobs
}

fn check_places(history: &History, violations: &mut BTreeSet<Violation>) {
    let mut places = BTreeMap::new();
    for place in &history.places {
        if places.insert((place.job_id, place.generation), place).is_some() {
            violations.insert(Violation::TwoPlaces(place.job_id, place.generation));
        }
    }
    for seen in history.seen_ends.iter().filter(|seen| !history.taken_back.ends.contains(seen)) {
        if places.get(&(seen.job_id, seen.generation)).is_none_or(|place| *place != seen) {
            violations.insert(Violation::EndChanged(seen.job_id, seen.generation));
        }
    }
}

fn check_leases(history: &History, violations: &mut BTreeSet<Violation>) {
    let (mut ids, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    for attempt in &history.attempts {
        let is_again = ids.insert(attempt.lease_id, attempt).map(|other| {
            // The ledger joins begun and ended: the same lease of the same job is listed once for each end.
            (other.job_id, other.lease_no) == (attempt.job_id, attempt.lease_no)
        });
        match is_again {
            Some(true) => drop(violations.insert(Violation::AttemptEndedTwice(attempt.lease_id))),
            Some(false) => {
                violations.insert(Violation::LeaseIdTwice(attempt.lease_id.to_string()));
            }
            // A fail-over that takes a lease back takes its number back, too. Its id is another matter.
            None if history.taken_back.has_lease(attempt.lease_id) => {}
            None => {
                if numbers.insert((attempt.job_id, attempt.lease_no), attempt.lease_id).is_some() {
                    violations.insert(Violation::LeaseNoTwice(attempt.job_id, attempt.lease_no));
                }
            }
        }
    }
    for taken in &history.taken_back.attempts {
        if ids.get(&taken.lease_id).is_some_and(|other| other.job_id != taken.job_id) {
            violations.insert(Violation::LeaseIdTwice(taken.lease_id.to_string()));
        }
    }
}

/// A lease may end its job while it is the job's; and later only if the job was not leased since.
fn check_ends(
    history: &History,
    attempts: &BTreeMap<JobId, Vec<&Attempt>>,
    violations: &mut BTreeSet<Violation>,
) {
    for place in &history.places {
        let Some(lease) = place.ended_by else { continue };
        let attempts = attempts.get(&place.job_id).map(Vec::as_slice).unwrap_or_default();
        let Some(ending) = attempts.iter().find(|attempt| attempt.lease_id == lease) else {
            violations.insert(Violation::StaleAccepted(place.job_id, lease));
            continue;
        };
        let was_lost = ending.outcome == Some(Outcome::Lost) && !place.is_late;
        let was_leased_since = attempts.iter().any(|other| {
            is_leased_after(other, ending, &history.taken_back)
                && other.generation.is_none_or(|life| life == place.generation)
        });
        if was_lost || was_leased_since {
            violations.insert(Violation::StaleAccepted(place.job_id, lease));
        }
    }
}

/// By their numbers; but a number that a fail-over took back may have been given again, and then to a later lease.
fn is_leased_after(other: &Attempt, ending: &Attempt, taken_back: &TakenBack) -> bool {
    if taken_back.has_lease(other.lease_id) {
        return false;
    }
    let has_number_again = other.lease_id != ending.lease_id
        && other.lease_no == ending.lease_no
        && taken_back.has_lease(ending.lease_id);
    other.lease_no > ending.lease_no || has_number_again
}

fn check_calls(
    history: &History,
    jobs: &BTreeMap<&str, JobId>,
    attempts: &BTreeMap<JobId, Vec<&Attempt>>,
    violations: &mut BTreeSet<Violation>,
) {
    let held: BTreeSet<&str> = history
        .acknowledged
        .iter()
        .filter(|told| told.when_unknown == WhenUnknown::Hold)
        .map(|told| told.key.as_str())
        .collect();
    let keys = jobs.iter().map(|(key, job)| (*job, *key)).collect();
    let taken_back = history.taken_back.attempts_by_key(&keys);
    for (key, calls) in calls_by_key(history) {
        let Some(job) = jobs.get(key).copied() else {
            if !history.never_told.contains(key) {
                violations.insert(Violation::CallOfNobody(key.to_owned()));
            }
            continue;
        };
        let attempts = attempts.get(&job).map(Vec::as_slice).unwrap_or_default();
        let taken = taken_back.get(key).map(Vec::as_slice).unwrap_or_default();
        // Those that came back with a late answer are on both lists.
        let is_gone = |taken: &&&Attempt| attempts.iter().all(|other| other.lease_id != taken.lease_id);
        let begun = attempts.len() + taken.iter().filter(is_gone).count();
        if calls.len() > begun {
            violations.insert(Violation::CallNotOnLedger(job, calls.len() - begun));
        }
        let repeated = repeated(&calls);
        let explained = attempts.iter().filter(|attempt| may_have_called(attempt)).count() + taken.len();
        if repeated > explained {
            violations.insert(Violation::RepeatedSilently(job, repeated, explained));
        }
        if repeated > taken.len() && held.contains(key) {
            violations.insert(Violation::RepeatedDespiteHold(job, repeated));
        }
    }
}

/// An answer that was given in full must be found by its call, on the ledger or among the late ones. What a worker had
/// in memory when it was killed is excused, one call for each of its lost attempts.
fn check_answers(
    history: &History,
    jobs: &BTreeMap<&str, JobId>,
    attempts: &BTreeMap<JobId, Vec<&Attempt>>,
    violations: &mut BTreeSet<Violation>,
) {
    let settled = history.attempts.iter().filter_map(|attempt| attempt.call_id.as_deref());
    let late = history.late.iter().filter_map(|answer| answer.call_id.as_deref());
    let taken_back = history.taken_back.answers.iter().map(String::as_str);
    let kept: BTreeSet<&str> = settled.chain(late).chain(taken_back).collect();
    for (key, calls) in calls_by_key(history) {
        let Some(job) = jobs.get(key).copied() else { continue };
        let is_nowhere = |call: &&&Call| call.call_id.as_deref().is_none_or(|id| !kept.contains(id));
        let nowhere: Vec<&&Call> = calls.iter().filter(is_nowhere).collect();
        let answers = nowhere.iter().filter(|call| call.end == CallEnd::AnsweredWell).count();
        let attempts = attempts.get(&job).map(Vec::as_slice).unwrap_or_default();
        let lost = attempts.iter().filter(|attempt| matches!(attempt.outcome, None | Some(Outcome::Lost)));
        let (killed, living): (Vec<&&Attempt>, Vec<_>) =
            lost.partition(|attempt| history.killed.contains(&attempt.incarnation));
        // A call without an answer stands for a lost attempt, too: of a worker that lived on, as long as there is one.
        let unanswered = (nowhere.len() - answers).saturating_sub(living.len());
        let excused = killed.len().saturating_sub(unanswered);
        if answers > excused {
            violations.insert(Violation::AnswerLost(job, answers - excused));
        }
    }
}

fn attempts_by_job(history: &History) -> BTreeMap<JobId, Vec<&Attempt>> {
    let mut attempts: BTreeMap<JobId, Vec<&Attempt>> = BTreeMap::new();
    for attempt in &history.attempts {
        attempts.entry(attempt.job_id).or_default().push(attempt);
    }
    attempts
}

fn calls_by_key(history: &History) -> BTreeMap<&str, Vec<&Call>> {
    let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        calls.entry(call.key.as_str()).or_default().push(call);
    }
    calls
}

/// Calls that follow one that had been answered well or cut. What follows an error answer is a retry.
fn repeated(calls: &[&Call]) -> usize {
    calls.iter().rev().skip(1).filter(|call| call.end != CallEnd::AnsweredBadly).count()
}

fn may_have_called(attempt: &Attempt) -> bool {
    matches!(attempt.outcome, None | Some(Outcome::Unknown | Outcome::Lost))
}
