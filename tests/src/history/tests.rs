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

/// As [`sound`], after a fail-over that took back the second job's first attempt and the whole of a third job.
fn after_fail_over() -> History {
    let mut history = sound();
    let three = JobId::generate();
    let taken = history.attempts.remove(2);
    // What took its place has its number.
    history.attempts[2].lease_no = 1;
    history.acknowledged.push(Acknowledged {
        key: "three".to_owned(),
        job_id: three,
        when_unknown: WhenUnknown::Repeat,
    });
    let ending = attempt(three, 1, Outcome::Succeeded, "e");
    let end = Place { job_id: three, ended_by: Some(ending.lease_id), ..history.places[0].clone() };
    history.calls.push(call("three", "e", CallEnd::AnsweredWell));
    history.seen_ends.push(end.clone());
    history.killed.clear();
    history.taken_back = TakenBack {
        jobs: [(three, "three".to_owned())].into(),
        attempts: vec![taken, ending],
        ends: vec![end],
        answers: BTreeSet::from(["e".to_owned()]),
    };
    history
}

fn caught_after_fail_over(corrupt: impl FnOnce(&mut History), expected: impl Fn(&Violation) -> bool) {
    let mut history = after_fail_over();
    corrupt(&mut history);
    let found = check(&history);
    assert!(found.iter().any(expected), "{found:?}");
}

#[test]
fn what_a_fail_over_took_back_is_excused_and_nothing_else() {
    assert_eq!(check(&after_fail_over()), []);
    caught_after_fail_over(|h| h.taken_back.jobs.clear(), |v| matches!(v, Violation::Lost(_)));
    caught_after_fail_over(|h| h.taken_back.ends.clear(), |v| matches!(v, Violation::EndChanged(..)));
    caught_after_fail_over(|h| h.taken_back.answers.clear(), |v| matches!(v, Violation::AnswerLost(..)));
    caught_after_fail_over(
        |h| h.taken_back.attempts.clear(),
        |v| matches!(v, Violation::CallNotOnLedger(_, 1)),
    );
    // Of two repeated calls only one is explained by the attempt that was taken back.
    caught_after_fail_over(
        |h| {
            h.calls.insert(0, call("two", "c2", CallEnd::Cut));
            h.attempts.push(attempt(h.acknowledged[1].job_id, 2, Outcome::Retry, "c2"));
        },
        |v| matches!(v, Violation::RepeatedSilently(_, 2, 1)),
    );
}

#[test]
fn an_id_that_is_used_again_is_caught() {
    caught(|h| h.acknowledged[1].job_id = h.acknowledged[0].job_id, |v| matches!(v, Violation::IdTwice(_)));
    caught_after_fail_over(
        |h| h.places.push(h.taken_back.ends[0].clone()),
        |v| matches!(v, Violation::IdTwice(_)),
    );
    caught_after_fail_over(
        |h| h.taken_back.attempts[1].lease_id = h.attempts[0].lease_id,
        |v| matches!(v, Violation::LeaseIdTwice(_)),
    );
}

#[test]
fn a_late_word_of_a_lease_whose_number_was_given_again_is_caught() {
    // The lease that was taken back comes late and ends the job, which another one under the same number had by then.
    caught_after_fail_over(
        |h| {
            let late = Attempt { outcome: Some(Outcome::Succeeded), ..h.taken_back.attempts[0].clone() };
            h.places[1].ended_by = Some(late.lease_id);
            h.places[1].is_late = true;
            h.attempts.push(late);
        },
        |v| matches!(v, Violation::StaleAccepted(..)),
    );
}

#[test]
fn what_was_taken_back_is_what_one_server_has_and_the_other_has_not() {
    let history = after_fail_over();
    let went_on = Standing {
        keys: history.acknowledged[..2].iter().map(|told| (told.job_id, told.key.clone())).collect(),
        places: history.places.clone(),
        attempts: history.attempts.clone(),
        late: Vec::new(),
    };
    let mut left = went_on.clone();
    left.keys.extend(history.taken_back.jobs.clone());
    left.places.extend(history.taken_back.ends.clone());
    left.attempts.extend(history.taken_back.attempts.clone());
    let expected = TakenBack {
        // The lost attempt's worker told of no call.
        answers: BTreeSet::from(["e".to_owned()]),
        ..history.taken_back.clone()
    };
    assert_eq!(TakenBack::between(&left, &went_on), expected);
    assert_eq!(TakenBack::between(&went_on, &went_on), TakenBack::default());
}
