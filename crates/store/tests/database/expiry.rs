//! Expiry: dead workers, crashes, deadlines.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sluice_domain::{Decision, HoldReason, JobState, OnUnknown, Outcome, SettleVerdict, Settlement};
use sluice_store::{BeatReply, Bodies, ReapRequest, WorkerLoad};
use sluice_testkit::job;

use crate::fixture::{Fixture, success};

const TTL: Duration = Duration::from_secs(15);

async fn expected(f: &Fixture) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let seen = f.store.reap(ReapRequest { ttl: TTL, expected: None }).await.unwrap();
    Some((seen.database_now, seen.postmaster_start))
}

#[tokio::test]
async fn an_expired_lease_is_run_again_and_its_crash_counted() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    f.lease_one(worker).await;
    f.stop_beating(worker).await;
    let expected = expected(&f).await;
    let reaped = f.store.reap(ReapRequest { ttl: TTL, expected }).await.unwrap();
    assert_eq!((reaped.marked, reaped.leases), (1, 1));
    let other = f.incarnation().await;
    let again = f.lease_one(other).await;
    assert_eq!((again.job_id, again.crashes, again.tries, again.lease_no), (id, 1, 0, 2));
    let attempts = f.store.attempts(&f.tenant, id).await.unwrap().unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Lost));
}

#[tokio::test]
async fn a_beating_worker_keeps_its_leases() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    f.lease_one(worker).await;
    let expected = expected(&f).await;
    let reaped = f.store.reap(ReapRequest { ttl: TTL, expected }).await.unwrap();
    assert_eq!((reaped.marked, reaped.leases), (0, 0));
}

#[tokio::test]
async fn a_disagreement_about_time_or_server_marks_nobody() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    f.lease_one(worker).await;
    f.stop_beating(worker).await;
    let (now, start) = expected(&f).await.unwrap();
    for wrong in [
        None,
        Some((now - Duration::from_secs(5), start)),
        Some((now + Duration::from_hours(1), start)),
        Some((now, start - Duration::from_secs(1))),
    ] {
        let reaped = f.store.reap(ReapRequest { ttl: TTL, expected: wrong }).await.unwrap();
        assert_eq!((reaped.marked, reaped.leases), (0, 0), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_dead_stay_dead() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let mut beats = f.store.beat_connection().await.unwrap();
    let alive = beats.beat(worker, WorkerLoad::default()).await.unwrap();
    assert!(matches!(alive, BeatReply::Alive { .. }), "{alive:?}");
    f.store.incarnation_end(worker).await.unwrap();
    assert_eq!(beats.beat(worker, WorkerLoad::default()).await.unwrap(), BeatReply::Dead);
}

#[tokio::test]
async fn a_job_that_says_hold_is_held_when_its_worker_dies() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().on_unknown(OnUnknown::Hold).build()).await;
    f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((view.state, view.hold_reason), (JobState::Held, Some(HoldReason::UnknownOutcome)));
}

#[tokio::test]
async fn a_job_whose_workers_crash_three_times_is_poison() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    for crash in 0..3 {
        let worker = f.incarnation().await;
        assert_eq!(f.lease_one(worker).await.crashes, crash);
        f.store.incarnation_end(worker).await.unwrap();
    }
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((view.state, view.hold_reason), (JobState::Held, Some(HoldReason::Poison)));
}

#[tokio::test]
async fn a_suspect_that_was_isolated_is_not_held_for_the_death_of_its_worker() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    for lost in 0..22 {
        assert_eq!(f.state(id).await, JobState::Queued, "after {lost} leases");
        let worker = f.isolating_incarnation().await;
        let leased = f.lease_one(worker).await;
        assert_eq!((leased.crashes, leased.refusals), (lost.min(2), lost - lost.min(2)));
        f.store.incarnation_end(worker).await.unwrap();
    }
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((view.state, view.hold_reason), (JobState::Held, Some(HoldReason::Poison)), "there is an end");
    assert_eq!(view.crashes, 2);
}

#[tokio::test]
async fn a_suspect_that_was_not_isolated_is_held_when_its_worker_dies() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    for _ in 0..2 {
        let worker = f.isolating_incarnation().await;
        f.lease_one(worker).await;
        f.store.incarnation_end(worker).await.unwrap();
    }
    let worker = f.incarnation().await;
    assert_eq!(f.lease_one(worker).await.crashes, 2);
    f.store.incarnation_end(worker).await.unwrap();
    assert_eq!(f.state(id).await, JobState::Held);
}

#[tokio::test]
async fn refusals_make_no_suspect_of_a_job_whose_workers_never_crashed() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    sqlx::query("UPDATE sluice.ready SET refusals = 19").execute(f.database.pool()).await.unwrap();
    let worker = f.isolating_incarnation().await;
    f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    assert_eq!(f.state(id).await, JobState::Queued);
    let again = f.lease_one(f.incarnation().await).await;
    assert_eq!((again.crashes, again.refusals), (1, 19));
}

#[tokio::test]
async fn an_attempt_that_is_settled_as_lost_counts_a_crash() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let again = Decision::Requeue { delay: Duration::ZERO, spends_try: false, is_refusal: false };
    for (crash, decision) in
        [again.clone(), again, Decision::Hold(HoldReason::Poison)].into_iter().enumerate()
    {
        let leased = f.lease_one(worker).await;
        assert_eq!((leased.crashes, leased.tries), (crash as u16, 0));
        let lost =
            Settlement { outcome: Outcome::Lost, decision, answer: None, ..success(worker, &leased, b"") };
        assert_eq!(f.store.settle_many(&[lost]).await.unwrap(), [SettleVerdict::Settled]);
    }
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((view.state, view.hold_reason, view.crashes), (JobState::Held, Some(HoldReason::Poison), 3));
    let attempts = f.store.attempts(&f.tenant, id).await.unwrap().unwrap();
    assert!(attempts.iter().all(|attempt| attempt.outcome == Some(Outcome::Lost)), "{attempts:?}");
}

#[tokio::test]
async fn a_deadline_ends_waiting_jobs_and_they_are_never_leased() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    sqlx::query("UPDATE sluice.ready SET deadline = clock_timestamp() - interval '1 s'")
        .execute(f.database.pool())
        .await
        .unwrap();
    assert!(f.lease(worker, 1).await.is_empty());
    assert_eq!(f.store.deadlines_end(100).await.unwrap(), 1);
    let view = f.store.job(&f.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!(view.error.unwrap().class, sluice_domain::ErrorClass::DeadlineExceeded);
}

#[tokio::test]
async fn leases_whose_answer_never_arrived_are_listed() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    let none = f.store.leases_older_than(worker, Duration::from_mins(1)).await.unwrap();
    assert!(none.is_empty());
    let all = f.store.leases_older_than(worker, Duration::ZERO).await.unwrap();
    assert_eq!(all, [(leased.job_id, leased.lease_id)]);
}
