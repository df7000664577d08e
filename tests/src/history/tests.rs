//! Histories that were corrupted on purpose: each corruption must be caught.

use super::*;

/// Two jobs; the first was retried after an error, the second repeated after its worker was lost.
fn sound() -> History {
    let (one, two) = (JobId::generate(), JobId::generate());
    let attempts = vec![
        attempt(one, 1, Outcome::Retry, "a"),
        attempt(one, 2, Outcome::Succeeded, "b"),
        Attempt { call_id: None, ..attempt(two, 1, Outcome::Lost, "") },
        attempt(two, 2, Outcome::Succeeded, "d"),
    ];
    let place = |attempt: &Attempt| Place {
        job_id: attempt.job_id,
        generation: 1,
        state: JobState::Succeeded,
        ended_by: Some(attempt.lease_id),
        is_late: false,
    };
    let told =
        |key: &str, job_id| Acknowledged { key: key.to_owned(), job_id, when_unknown: WhenUnknown::Repeat };
    let places = vec![place(&attempts[1]), place(&attempts[3])];
    History {
        acknowledged: vec![told("one", one), told("two", two)],
        seen_ends: vec![places[0].clone()],
        places,
        killed: BTreeSet::from([attempts[2].incarnation]),
        attempts,
        calls: vec![
            call("one", "a", CallEnd::AnsweredBadly),
            call("two", "c", CallEnd::Cut),
            call("one", "b", CallEnd::AnsweredWell),
            call("two", "d", CallEnd::AnsweredWell),
        ],
        ..History::default()
    }
}

fn attempt(job_id: JobId, lease_no: u32, outcome: Outcome, call: &str) -> Attempt {
    Attempt {
        job_id,
        lease_id: LeaseId::generate(),
        lease_no,
        incarnation: IncarnationId::generate(),
        begun_at: DateTime::UNIX_EPOCH,
        generation: Some(1),
        outcome: Some(outcome),
        ended_at: Some(DateTime::UNIX_EPOCH),
        call_id: Some(call.to_owned()),
    }
}

fn call(key: &str, id: &str, end: CallEnd) -> Call {
    Call { key: key.to_owned(), call_id: Some(id.to_owned()), arrived_at: DateTime::UNIX_EPOCH, end }
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
    let expected = Figures { jobs: 2, calls: 4, repeated: 1, unknown_or_lost: 1, ..Figures::default() };
    assert_eq!(figures(&sound()), expected);
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
    caught(|h| h.attempts[1].lease_id = h.attempts[0].lease_id, |v| matches!(v, Violation::LeaseIdTwice(_)));
    caught(|h| h.attempts[1].lease_no = 1, |v| matches!(v, Violation::LeaseNoTwice(..)));
}

#[test]
fn a_call_that_is_not_on_the_ledger_is_caught() {
    caught(|h| h.attempts.truncate(3), |v| matches!(v, Violation::CallNotOnLedger(_, 1)));
    caught(|h| h.calls[0].key = "three".to_owned(), |v| matches!(v, Violation::CallOfNobody(_)));
}

#[test]
fn a_silent_repetition_is_caught() {
    caught(
        |h| h.attempts[2].outcome = Some(Outcome::Retry),
        |v| matches!(v, Violation::RepeatedSilently(_, 1, 0)),
    );
    caught(|h| h.calls[0].end = CallEnd::AnsweredWell, |v| matches!(v, Violation::RepeatedSilently(_, 1, 0)));
}

#[test]
fn two_jobs_of_one_key_are_caught() {
    caught(|h| h.acknowledged[1].key = "one".to_owned(), |v| matches!(v, Violation::KeyTwice(_)));
}

#[test]
fn the_end_by_a_lease_that_was_lost_is_caught() {
    caught(|h| h.attempts[3].outcome = Some(Outcome::Lost), |v| matches!(v, Violation::StaleAccepted(..)));
}

#[test]
fn the_end_by_a_lease_that_was_followed_by_another_is_caught() {
    caught(
        |h| h.places[1].ended_by = Some(h.attempts[2].lease_id),
        |v| matches!(v, Violation::StaleAccepted(..)),
    );
    caught(
        |h| {
            h.places[1].ended_by = Some(h.attempts[2].lease_id);
            h.places[1].is_late = true;
        },
        |v| matches!(v, Violation::StaleAccepted(..)),
    );
}

#[test]
fn a_late_answer_may_end_a_job_that_was_not_leased_since() {
    let mut history = sound();
    history.attempts.truncate(3);
    history.calls.truncate(3);
    history.calls[1].end = CallEnd::AnsweredWell;
    history.killed.clear();
    let lease_id = history.attempts[2].lease_id;
    history.places[1].ended_by = Some(lease_id);
    history.places[1].is_late = true;
    let job_id = history.places[1].job_id;
    history.late.push(LateAnswer { job_id, lease_id, call_id: Some("c".to_owned()) });
    assert_eq!(check(&history), []);
    assert_eq!(figures(&history).late_kept, 1);
}

#[test]
fn the_end_by_a_lease_that_nobody_was_given_is_caught() {
    caught(
        |h| h.places[0].ended_by = Some(LeaseId::generate()),
        |v| matches!(v, Violation::StaleAccepted(..)),
    );
}

#[test]
fn an_attempt_that_ended_twice_is_caught() {
    caught(
        |h| h.attempts.push(Attempt { outcome: Some(Outcome::Lost), ..h.attempts[1].clone() }),
        |v| matches!(v, Violation::AttemptEndedTwice(_)),
    );
}

#[test]
fn an_end_that_changed_or_went_is_caught() {
    caught(|h| h.places[0].state = JobState::Failed, |v| matches!(v, Violation::EndChanged(_, 1)));
    caught(|h| _ = h.places.remove(0), |v| matches!(v, Violation::EndChanged(_, 1)));
}

#[test]
fn a_repetition_of_what_was_to_be_held_is_caught() {
    caught(
        |h| h.acknowledged[1].when_unknown = WhenUnknown::Hold,
        |v| matches!(v, Violation::RepeatedDespiteHold(_, 1)),
    );
}

#[test]
fn an_answer_that_a_living_worker_lost_is_caught() {
    let lose = |h: &mut History| {
        h.killed.clear();
        h.calls[1].end = CallEnd::AnsweredWell;
    };
    caught(lose, |v| matches!(v, Violation::AnswerLost(_, 1)));
    caught(|h| h.calls[3].call_id = Some("e".to_owned()), |v| matches!(v, Violation::AnswerLost(_, 1)));
}

#[test]
fn an_answer_that_died_with_its_worker_is_excused() {
    let mut history = sound();
    history.calls[1].end = CallEnd::AnsweredWell;
    assert_eq!(check(&history), []);
}

#[test]
fn calls_of_submits_whose_fate_nobody_was_told_are_excused() {
    let mut history = sound();
    history.calls.push(call("three", "f", CallEnd::AnsweredWell));
    assert_eq!(check(&history), [Violation::CallOfNobody("three".to_owned())]);
    history.never_told.insert("three".to_owned());
    assert_eq!(check(&history), []);
}

#[test]
fn figures_count_what_was_broken() {
    let mut history = sound();
    history.attempts.truncate(3);
    history.places.truncate(1);
    history.acknowledged[1].key = "two".to_owned();
    let figures = figures(&history);
    assert_eq!((figures.lost, figures.repeated_not_on_ledger), (1, 1));
}
