//! The history checker: joins what clients were told, what the database holds and what the upstream received, and
//! names every invariant that the three together break.
//!
//! It judges I1 (nothing acknowledged is lost), I2 (one valid lease per job), I4 (one end per generation), I5 (no
//! silent double billing) and I6 (one job per key). It is itself tested with histories that were corrupted on purpose.

use std::collections::{BTreeMap, BTreeSet};

use sluice_domain::{JobId, JobState, LeaseId, Outcome};

/// A submit that was acknowledged: the client's own name for the job, and the id it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The client's name for the job; the upstream sees it in the body.
    pub key: String,
    /// The id.
    pub job_id: JobId,
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
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// The call, where the worker told of it.
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
    /// How it ended.
    pub end: CallEnd,
}

/// The three records of one test.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// What clients were told.
    pub acknowledged: Vec<Acknowledged>,
    /// Where jobs stand.
    pub places: Vec<Place>,
    /// The ledger.
    pub attempts: Vec<Attempt>,
    /// What the upstream received, in order of arrival.
    pub calls: Vec<Call>,
}

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Violation {
    /// I1: acknowledged, and not there.
    Lost(JobId),
    /// I1: there, but neither ended nor held when all should have come to rest.
    NotEnded(JobId),
    /// I2: a lease id was given out twice.
    LeaseIdTwice(String),
    /// I2: two leases of a job have one number.
    LeaseNoTwice(JobId, u32),
    /// I4: a job stands in two places in one generation.
    TwoPlaces(JobId, u32),
    /// I5: more calls than begun attempts.
    CallNotOnLedger(JobId),
    /// I5: so many calls were repeated, and only so many attempts say that they may have been.
    RepeatedSilently(JobId, usize, usize),
    /// I5: the upstream received a call for a job that nobody was told of.
    CallOfNobody(String),
    /// I6: one key, two jobs.
    KeyTwice(String),
}

/// How often calls were repeated in a history, for the figures of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Calls that the upstream received.
    pub calls: usize,
    /// Calls that follow one that was answered well or cut.
    pub repeated: usize,
    /// Attempts whose outcome is unknown or lost.
    pub unknown_or_lost: usize,
}

/// Checks a history after everything came to rest.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = BTreeSet::new();
    let jobs = check_acknowledgements(history, &mut violations);
    check_places(history, &mut violations);
    check_leases(history, &mut violations);
    check_calls(history, &jobs, &mut violations);
    violations.into_iter().collect()
}

/// Counts what a sound history may hold, but a good one holds little of.
pub fn figures(history: &History) -> Figures {
    Figures {
        calls: history.calls.len(),
        repeated: calls_by_key(history).values().map(|calls| repeated(calls)).sum(),
        unknown_or_lost: history.attempts.iter().filter(|attempt| may_have_called(attempt)).count(),
    }
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
    let mut jobs = BTreeMap::new();
    for told in &history.acknowledged {
        match latest.get(&told.job_id) {
            None => drop(violations.insert(Violation::Lost(told.job_id))),
            Some(place) if !place.state.is_terminal() && place.state != JobState::Held => {
                violations.insert(Violation::NotEnded(told.job_id));
            }
            Some(_) => {}
        }
        if jobs.insert(told.key.as_str(), told.job_id).is_some_and(|other| other != told.job_id) {
            violations.insert(Violation::KeyTwice(told.key.clone()));
        }
    }
    jobs
}

fn check_places(history: &History, violations: &mut BTreeSet<Violation>) {
    let mut seen = BTreeSet::new();
    for place in &history.places {
        if !seen.insert((place.job_id, place.generation)) {
            violations.insert(Violation::TwoPlaces(place.job_id, place.generation));
        }
    }
}

fn check_leases(history: &History, violations: &mut BTreeSet<Violation>) {
    let (mut ids, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for attempt in &history.attempts {
        if !ids.insert(attempt.lease_id) {
            violations.insert(Violation::LeaseIdTwice(attempt.lease_id.to_string()));
        }
        if !numbers.insert((attempt.job_id, attempt.lease_no)) {
            violations.insert(Violation::LeaseNoTwice(attempt.job_id, attempt.lease_no));
        }
    }
}

fn check_calls(history: &History, jobs: &BTreeMap<&str, JobId>, violations: &mut BTreeSet<Violation>) {
    let mut attempts: BTreeMap<JobId, Vec<&Attempt>> = BTreeMap::new();
    for attempt in &history.attempts {
        attempts.entry(attempt.job_id).or_default().push(attempt);
    }
    for (key, calls) in calls_by_key(history) {
        let Some(job) = jobs.get(key).copied() else {
            violations.insert(Violation::CallOfNobody(key.to_owned()));
            continue;
        };
        let attempts = attempts.get(&job).map(Vec::as_slice).unwrap_or_default();
        if calls.len() > attempts.len() {
            violations.insert(Violation::CallNotOnLedger(job));
        }
        let repeated = repeated(&calls);
        let explained = attempts.iter().filter(|attempt| may_have_called(attempt)).count();
        if repeated > explained {
            violations.insert(Violation::RepeatedSilently(job, repeated, explained));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two jobs; the first was retried after an error, the second repeated after its worker was lost.
    fn sound() -> History {
        let (one, two) = (JobId::generate(), JobId::generate());
        let attempt = |job_id, lease_no, outcome| Attempt {
            job_id,
            lease_id: LeaseId::generate(),
            lease_no,
            outcome: Some(outcome),
            call_id: None,
        };
        let call = |key: &str, end| Call { key: key.to_owned(), call_id: None, end };
        let place = |job_id| Place { job_id, generation: 1, state: JobState::Succeeded };
        History {
            acknowledged: vec![
                Acknowledged { key: "one".to_owned(), job_id: one },
                Acknowledged { key: "two".to_owned(), job_id: two },
            ],
            places: vec![place(one), place(two)],
            attempts: vec![
                attempt(one, 1, Outcome::Retry),
                attempt(one, 2, Outcome::Succeeded),
                attempt(two, 1, Outcome::Lost),
                attempt(two, 2, Outcome::Succeeded),
            ],
            calls: vec![
                call("one", CallEnd::AnsweredBadly),
                call("two", CallEnd::Cut),
                call("one", CallEnd::AnsweredWell),
                call("two", CallEnd::AnsweredWell),
            ],
        }
    }

    /// Corrupts a sound history and says what the checker must find.
    fn caught(corrupt: impl FnOnce(&mut History), expected: impl Fn(&Violation) -> bool) {
        let mut history = sound();
        corrupt(&mut history);
        let found = check(&history);
        assert!(found.iter().any(expected), "{found:?}");
    }

    #[test]
    fn a_sound_history_passes() {
        assert_eq!(check(&sound()), []);
        assert_eq!(figures(&sound()), Figures { calls: 4, repeated: 1, unknown_or_lost: 1 });
    }

    #[test]
    fn a_lost_job_is_caught() {
        caught(|h| h.places.truncate(1), |v| matches!(v, Violation::Lost(_)));
    }

    #[test]
    fn a_job_that_never_ended_is_caught() {
        caught(|h| h.places[0].state = JobState::Queued, |v| matches!(v, Violation::NotEnded(_)));
    }

    #[test]
    fn a_second_end_is_caught() {
        caught(|h| h.places.push(h.places[0].clone()), |v| matches!(v, Violation::TwoPlaces(..)));
    }

    #[test]
    fn a_lease_given_out_twice_is_caught() {
        caught(
            |h| h.attempts[1].lease_id = h.attempts[0].lease_id,
            |v| matches!(v, Violation::LeaseIdTwice(_)),
        );
        caught(|h| h.attempts[1].lease_no = 1, |v| matches!(v, Violation::LeaseNoTwice(..)));
    }

    #[test]
    fn a_call_that_is_not_on_the_ledger_is_caught() {
        caught(|h| h.attempts.truncate(3), |v| matches!(v, Violation::CallNotOnLedger(_)));
        caught(|h| h.calls[0].key = "three".to_owned(), |v| matches!(v, Violation::CallOfNobody(_)));
    }

    #[test]
    fn a_silent_repetition_is_caught() {
        caught(
            |h| h.attempts[2].outcome = Some(Outcome::Retry),
            |v| matches!(v, Violation::RepeatedSilently(_, 1, 0)),
        );
        caught(
            |h| h.calls[0].end = CallEnd::AnsweredWell,
            |v| matches!(v, Violation::RepeatedSilently(_, 1, 0)),
        );
    }

    #[test]
    fn two_jobs_of_one_key_are_caught() {
        caught(|h| h.acknowledged[1].key = "one".to_owned(), |v| matches!(v, Violation::KeyTwice(_)));
    }
}
