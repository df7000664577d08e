//! Words of workers whose leases had ended: many in one statement, and what is shown of them.

use std::time::Duration;

use sluice_domain::{
    Decision, ErrorClass, IncarnationId, JobState, LeasedJob, Outcome, SettleVerdict, Settlement,
};
use sluice_store::Bodies;
use sluice_testkit::job;

use crate::fixture::{Fixture, success};

/// A paid answer that is no success.
fn malformed(worker: IncarnationId, leased: &LeasedJob) -> Settlement {
    Settlement {
        outcome: Outcome::Unknown,
        error: Some((ErrorClass::MalformedAnswer, "cut".to_owned())),
        decision: Decision::Fail { is_retryable: true },
        ..success(worker, leased, b"{\"cut\": ")
    }
}

/// An error, of which nothing is to be kept.
fn error(worker: IncarnationId, leased: &LeasedJob) -> Settlement {
    Settlement {
        outcome: Outcome::Failed,
        error: Some((ErrorClass::ServerError, "500".to_owned())),
        answer: None,
        ..malformed(worker, leased)
    }
}

#[tokio::test]
async fn late_words_are_taken_in_one_statement_and_each_has_its_verdict() {
    let f = Fixture::new().await;
    let (dead, living) = (f.incarnation().await, f.incarnation().await);
    f.store.submit_many(&job().times(30)).await.unwrap();
    let lost = f.lease(dead, 29).await;
    let kept = f.lease(living, 1).await;
    f.store.incarnation_end(dead).await.unwrap();
    let mut settlements = vec![success(living, &kept[0], b"in time")];
    let mut expected = vec![SettleVerdict::Settled];
    for (place, lease) in lost.iter().enumerate() {
        let (settlement, verdict) = match place % 3 {
            0 => (success(dead, lease, b"late"), SettleVerdict::LateAccepted),
            1 => (malformed(dead, lease), SettleVerdict::LateKept),
            _ => (error(dead, lease), SettleVerdict::Stale),
        };
        settlements.push(settlement);
        expected.push(verdict);
    }
    settlements.reverse();
    expected.reverse();
    assert_eq!(f.store.settle_many(&settlements).await.unwrap(), expected);
    let statements: i64 = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM sluice.late_results")
        .fetch_one(f.database.pool())
        .await
        .unwrap();
    assert_eq!((f.count("late_results").await, statements), (20, 1), "one round trip, not one each");
}

#[tokio::test]
async fn of_late_answers_that_ended_nothing_a_success_is_shown() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        let worker = f.incarnation().await;
        leases.push((worker, f.lease_one(worker).await));
        f.store.incarnation_end(worker).await.unwrap();
    }
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    for settlement in [
        malformed(leases[0].0, &leases[0].1),
        success(leases[1].0, &leases[1].1, b"{\"good\": true}"),
        malformed(leases[2].0, &leases[2].1),
    ] {
        assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::LateKept]);
    }
    let shown = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap().result.unwrap();
    assert_eq!((shown.body.as_slice(), shown.is_late), (b"{\"good\": true}".as_slice(), true));
}

#[tokio::test]
async fn a_late_success_is_shown_before_the_bad_answer_of_the_last_lease() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    let (dead, living) = (f.incarnation().await, f.incarnation().await);
    let lost = f.lease_one(dead).await;
    f.store.incarnation_end(dead).await.unwrap();
    let second = f.lease_one(living).await;
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    for settlement in [success(dead, &lost, b"{\"good\": true}"), malformed(living, &second)] {
        assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::LateKept]);
    }
    let shown = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap().result.unwrap();
    assert_eq!((shown.body.as_slice(), shown.is_late), (b"{\"good\": true}".as_slice(), true));
}

#[tokio::test]
async fn a_late_success_without_its_answer_ends_nothing() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let settlement = Settlement { answer: None, ..success(worker, &f.lease_one(worker).await, b"") };
    f.store.incarnation_end(worker).await.unwrap();
    assert_eq!(f.store.settle_many(&[settlement]).await.unwrap(), [SettleVerdict::Stale]);
    assert_eq!((f.state(id).await, f.count("late_results").await), (JobState::Queued, 0));
}

#[tokio::test]
async fn what_an_earlier_attempt_came_to_does_not_stand_for_a_later_one() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    let mut earlier = Vec::new();
    // An earlier one stands before it in the table, and by its lease id as well.
    let (dead, last) = loop {
        let worker = f.incarnation().await;
        let leased = f.lease_one(worker).await;
        if earlier.iter().any(|lease_id| *lease_id < leased.lease_id) {
            break (worker, leased);
        }
        earlier.push(leased.lease_id);
        let retried = Settlement {
            decision: Decision::Requeue { delay: Duration::ZERO, spends_try: true, is_refusal: false },
            outcome: Outcome::Retry,
            ..error(worker, &leased)
        };
        f.store.settle_many(&[retried]).await.unwrap();
    };
    f.store.incarnation_end(dead).await.unwrap();
    let settled = f.store.settle_many(&[success(dead, &last, b"late")]).await.unwrap();
    assert_eq!(settled, [SettleVerdict::LateAccepted]);
    assert_eq!(f.state(id).await, JobState::Succeeded);
}
