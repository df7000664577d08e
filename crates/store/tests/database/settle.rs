//! Settling: the fence, late answers, repeated words.

use std::time::Duration;

use sluice_domain::{
    Decision, ErrorClass, HoldReason, IncarnationId, JobState, LeasedJob, OnUnknown, Outcome, SettleVerdict,
    Settlement,
};
use sluice_store::Bodies;
use sluice_testkit::job;

use crate::fixture::{Fixture, success};

#[tokio::test]
async fn a_settled_answer_is_kept_byte_for_byte() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    let bytes = b"{\"a\":\"\0\xff\xfe\"}\r\n";
    let verdicts = f.store.settle_many(&[success(worker, &leased, bytes)]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::Settled]);
    let view = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
    let result = view.result.unwrap();
    assert_eq!((view.state, view.tries, result.status_code), (JobState::Succeeded, 1, 200));
    assert_eq!(result.body, bytes);
    assert_eq!(result.cost.0, 1_234);
    assert_eq!(result.usage.unwrap().input_tokens, 7);
}

#[tokio::test]
async fn a_settle_that_is_repeated_is_recognised() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    let settlement = success(worker, &leased, b"{}");
    f.store.settle_many(std::slice::from_ref(&settlement)).await.unwrap();
    let again = f.store.settle_many(&[settlement]).await.unwrap();
    assert_eq!(again, [SettleVerdict::AlreadySettled]);
    assert_eq!(
        (f.count("done").await, f.count("attempts_ended").await, f.count("late_results").await),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_retry_goes_back_with_its_try_spent() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    let mut settlement = success(worker, &leased, b"busy");
    settlement.outcome = Outcome::Retry;
    settlement.answer = None;
    settlement.error = Some((ErrorClass::ServerError, "upstream said\0 500".to_owned()));
    settlement.decision =
        Decision::Requeue { delay: Duration::from_mins(1), spends_try: true, is_refusal: false };
    f.store.settle_many(&[settlement]).await.unwrap();
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((view.state, view.tries), (JobState::Queued, 1));
    assert_eq!(view.error.unwrap().class, ErrorClass::ServerError);
    assert!(f.lease(worker, 1).await.is_empty(), "it rests for a minute");
}

#[tokio::test]
async fn an_unknown_outcome_can_be_held_and_released() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().on_unknown(OnUnknown::Hold).build()).await;
    let leased = f.lease_one(worker).await;
    let mut settlement = success(worker, &leased, b"");
    settlement.outcome = Outcome::Unknown;
    settlement.answer = None;
    settlement.error = Some((ErrorClass::ConnectionLost, "the connection broke".to_owned()));
    settlement.decision = Decision::Hold(HoldReason::UnknownOutcome);
    f.store.settle_many(&[settlement]).await.unwrap();
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((view.state, view.hold_reason), (JobState::Held, Some(HoldReason::UnknownOutcome)));
    assert!(f.lease(worker, 1).await.is_empty());
    f.store.job_release(&f.tenant, id).await.unwrap();
    assert_eq!(f.lease_one(worker).await.job_id, id);
}

#[tokio::test]
async fn a_job_that_fails_for_another_word_than_its_last_attempts_keeps_both() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let mut settlement = success(worker, &f.lease_one(worker).await, b"");
    settlement.outcome = Outcome::Retry;
    settlement.answer = None;
    settlement.error = Some((ErrorClass::RateLimited, "429".to_owned()));
    settlement.decision = Decision::Fail { is_retryable: true };
    f.store.settle_many(&[settlement]).await.unwrap();
    assert_eq!(f.state(id).await, JobState::Failed);
    let attempts = f.store.attempts(&f.tenant, id).await.unwrap().unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.outcome).collect::<Vec<_>>(), [Some(Outcome::Retry)]);
}

#[tokio::test]
async fn a_late_answer_ends_a_job_that_was_not_leased_since() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    assert_eq!(f.state(id).await, JobState::Queued);
    let verdicts = f.store.settle_many(&[success(worker, &leased, b"{\"paid\":1}")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateAccepted]);
    let view = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
    let result = view.result.unwrap();
    assert_eq!((view.state, result.is_late), (JobState::Succeeded, true));
    assert_eq!(result.body, b"{\"paid\":1}");
}

#[tokio::test]
async fn a_late_answer_changes_nothing_once_the_job_was_leased_again() {
    let f = Fixture::new().await;
    let (dead, alive) = (f.incarnation().await, f.incarnation().await);
    let id = f.submit(&job().build()).await;
    let stale = f.lease_one(dead).await;
    f.store.incarnation_end(dead).await.unwrap();
    let current = f.lease_one(alive).await;
    let verdicts = f.store.settle_many(&[success(dead, &stale, b"late")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateKept]);
    assert_eq!(f.state(id).await, JobState::Running);
    let verdicts = f.store.settle_many(&[success(alive, &current, b"current")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::Settled]);
    let view = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
    assert_eq!(view.result.unwrap().body, b"current");
    assert_eq!(f.count("late_results").await, 1);
}

#[tokio::test]
async fn a_late_error_is_stale() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    let mut settlement = success(worker, &leased, b"");
    settlement.answer.as_mut().unwrap().status_code = 422;
    settlement.outcome = Outcome::Failed;
    settlement.error = Some((ErrorClass::InvalidRequest, "no".to_owned()));
    settlement.decision = Decision::Fail { is_retryable: false };
    assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::Stale]);
    assert_eq!(f.state(id).await, JobState::Queued);
}

#[tokio::test]
async fn another_lease_id_settles_nothing() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    let mut forged = success(worker, &leased, b"forged");
    forged.lease_id = sluice_domain::LeaseId::generate();
    assert_eq!(f.store.settle_many(&[forged]).await.unwrap(), [SettleVerdict::LateKept]);
    assert_eq!(f.state(id).await, JobState::Running);
}

#[tokio::test]
async fn the_answer_of_a_cancelled_job_is_kept_as_late() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    assert_eq!((f.state(id).await, f.count("cancelled_leases").await), (JobState::Cancelled, 1));
    let verdicts = f.store.settle_many(&[success(worker, &leased, b"paid")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateKept]);
    let view = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
    let result = view.result.unwrap();
    assert_eq!((view.state, result.is_late), (JobState::Cancelled, true));
    assert_eq!((result.body.as_slice(), f.count("cancelled_leases").await), (&b"paid"[..], 0));
}

#[tokio::test]
async fn of_two_late_answers_the_one_that_ended_the_job_is_shown() {
    let f = Fixture::new().await;
    let (first, second) = (f.incarnation().await, f.incarnation().await);
    let id = f.submit(&job().build()).await;
    let stale = f.lease_one(first).await;
    f.store.incarnation_end(first).await.unwrap();
    let last = f.lease_one(second).await;
    let verdicts = f.store.settle_many(&[success(first, &stale, b"first")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateKept]);
    f.store.incarnation_end(second).await.unwrap();
    let verdicts = f.store.settle_many(&[success(second, &last, b"second")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateAccepted]);
    let view = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
    assert_eq!(view.result.unwrap().body, b"second");
}

/// Undoes a lease as a fail-over to a standby that had not received it does.
async fn lose_lease(f: &Fixture) {
    for statement in [
        "WITH gone AS (DELETE FROM sluice.running RETURNING *)
         INSERT INTO sluice.ready SELECT lane_id, priority, 0, clock_timestamp(), job_id, generation, lease_no - 1,
             tries, crashes, refusals, hold_on_unknown, deadline FROM gone",
        "DELETE FROM sluice.ledger_begun",
    ] {
        sqlx::query(statement).execute(f.database.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_whose_lease_a_fail_over_took_ends_a_job_that_was_not_leased_since() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    lose_lease(&f).await;
    let verdicts = f.store.settle_many(&[success(worker, &leased, b"paid")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateAccepted]);
    assert_eq!((f.state(leased.job_id).await, f.count("attempts_begun").await), (JobState::Succeeded, 1));
    assert_eq!(f.count("ledger_begun").await, 1, "the ledger has both halves again");
}

#[tokio::test]
async fn the_number_of_a_lease_that_a_fail_over_took_is_no_fence_once_another_has_it() {
    let f = Fixture::new().await;
    let (first, second) = (f.incarnation().await, f.incarnation().await);
    let id = f.submit(&job().build()).await;
    let lost = f.lease_one(first).await;
    lose_lease(&f).await;
    assert_eq!(f.lease_one(second).await.lease_no, lost.lease_no);
    f.store.incarnation_end(second).await.unwrap();
    let verdicts = f.store.settle_many(&[success(first, &lost, b"paid")]).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateKept]);
    assert_eq!(f.state(id).await, JobState::Queued);
}

#[tokio::test]
async fn a_delay_beyond_all_dates_fails_no_group() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let mut settlement = success(worker, &f.lease_one(worker).await, b"");
    settlement.outcome = Outcome::Retry;
    settlement.answer = None;
    settlement.error = Some((ErrorClass::ServerError, "500".to_owned()));
    settlement.decision = Decision::Requeue { delay: Duration::MAX, spends_try: true, is_refusal: false };
    assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::Settled]);
}

/// A paid answer that is no success, as the last try of a job may bring.
fn malformed(worker: IncarnationId, leased: &LeasedJob) -> Settlement {
    let mut settlement = success(worker, leased, b"{\"cut\": ");
    settlement.outcome = Outcome::Unknown;
    settlement.error = Some((ErrorClass::MalformedAnswer, "cut".to_owned()));
    settlement.decision = Decision::Fail { is_retryable: true };
    settlement
}

#[tokio::test]
async fn a_late_answer_that_was_paid_for_is_kept_though_it_is_no_success() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    let settlement = malformed(worker, &leased);
    let verdicts = f.store.settle_many(std::slice::from_ref(&settlement)).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateKept]);
    assert_eq!((f.state(id).await, f.count("late_results").await), (JobState::Queued, 1));
    assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::AlreadySettled]);
    assert_eq!(f.count("late_results").await, 1);
}

#[tokio::test]
async fn the_ledger_row_that_a_fail_over_took_is_written_anew_whatever_the_answer_was() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    lose_lease(&f).await;
    let settlement = malformed(worker, &leased);
    let verdicts = f.store.settle_many(std::slice::from_ref(&settlement)).await.unwrap();
    assert_eq!(verdicts, [SettleVerdict::LateKept]);
    assert_eq!(f.state(id).await, JobState::Queued);
    let attempt = f.store.attempts(&f.tenant, id).await.unwrap().unwrap().remove(0);
    assert_eq!((attempt.lease_id, attempt.outcome), (leased.lease_id, Some(Outcome::Unknown)));
    assert_eq!((attempt.is_late, attempt.status_code), (true, Some(200)));
    assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::AlreadySettled]);
    assert_eq!((f.count("attempts_begun").await, f.count("attempts_ended").await), (1, 1));
}

#[tokio::test]
async fn a_late_word_that_is_repeated_is_recognised() {
    let f = Fixture::new().await;
    let (first, second) = (f.incarnation().await, f.incarnation().await);
    f.submit(&job().build()).await;
    let stale = f.lease_one(first).await;
    f.store.incarnation_end(first).await.unwrap();
    let last = f.lease_one(second).await;
    f.store.incarnation_end(second).await.unwrap();
    for (settlement, verdict) in [
        (success(first, &stale, b"first"), SettleVerdict::LateKept),
        (success(second, &last, b"second"), SettleVerdict::LateAccepted),
    ] {
        assert_eq!(f.store.settle_many(std::slice::from_ref(&settlement)).await.unwrap(), [verdict]);
        let again = f.store.settle_many(&[settlement]).await.unwrap();
        assert_eq!(again, [SettleVerdict::AlreadySettled]);
    }
    assert_eq!((f.count("done").await, f.count("late_results").await), (1, 2));
}

#[tokio::test]
async fn a_repeated_word_is_recognised_whatever_it_made_of_the_job() {
    let requeue = Decision::Requeue { delay: Duration::ZERO, spends_try: true, is_refusal: false };
    for (outcome, decision) in [
        (Outcome::Failed, Decision::Fail { is_retryable: false }),
        (Outcome::Retry, requeue.clone()),
        (Outcome::Unknown, Decision::Hold(HoldReason::UnknownOutcome)),
        (Outcome::Cancelled, requeue),
    ] {
        let f = Fixture::new().await;
        let worker = f.incarnation().await;
        let id = f.submit(&job().build()).await;
        let leased = f.lease_one(worker).await;
        if outcome == Outcome::Cancelled {
            f.store.job_cancel(&f.tenant, id).await.unwrap();
        }
        let mut settlement = success(worker, &leased, b"");
        settlement.answer = None;
        settlement.error = Some((ErrorClass::ServerError, "500".to_owned()));
        (settlement.outcome, settlement.decision) = (outcome, decision);
        let verdicts = f.store.settle_many(std::slice::from_ref(&settlement)).await.unwrap();
        let is_let_go = outcome == Outcome::Cancelled;
        let expected = if is_let_go { SettleVerdict::LetGo } else { SettleVerdict::Settled };
        assert_eq!(verdicts, [expected], "{outcome:?}");
        let state = f.state(id).await;
        let again = f.store.settle_many(&[settlement]).await.unwrap();
        assert_eq!(again, [SettleVerdict::AlreadySettled], "{outcome:?}");
        assert_eq!((f.state(id).await, f.count("attempts_ended").await), (state, 1), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_not_waited_for_long_and_holds_up_no_other() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.store.submit_many(&job().times(2)).await.unwrap();
    let leased = f.lease(worker, 2).await;
    let mut holder = f.database.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM sluice.running WHERE job_id = $1 FOR UPDATE")
        .bind(leased[0].job_id.as_uuid())
        .execute(&mut *holder)
        .await
        .unwrap();
    let settlements: Vec<_> = leased.iter().map(|leased| success(worker, leased, b"{}")).collect();
    let error = f.store.settle_many(&settlements).await.unwrap_err();
    assert_eq!(error.sql_state().as_deref(), Some("55P03"), "{error}");
    assert_eq!(f.store.settle_many(&settlements[1..]).await.unwrap(), [SettleVerdict::Settled]);
    holder.rollback().await.unwrap();
    assert_eq!(f.store.settle_many(&settlements[..1]).await.unwrap(), [SettleVerdict::Settled]);
}
