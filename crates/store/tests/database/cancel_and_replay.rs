//! Cancel, replay, release: one winner each.

use std::time::Duration;

use sluice_domain::{Decision, ErrorClass, JobFilter, JobState, Outcome, TenantName};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};
use sluice_testkit::job;

use crate::fixture::{Fixture, success};

#[tokio::test]
async fn a_queued_job_is_cancelled_once_and_replayed_as_the_next_generation() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    assert_eq!(f.store.job_cancel(&f.tenant, id).await.unwrap(), CancelOutcome::Cancelled);
    assert_eq!(f.store.job_cancel(&f.tenant, id).await.unwrap(), CancelOutcome::AlreadyCancelled);
    let replay = |delay| f.store.job_replay_if_ended(&f.tenant, id, delay);
    assert_eq!(replay(Duration::ZERO).await.unwrap(), ReplayOutcome::Queued);
    assert_eq!(replay(Duration::ZERO).await.unwrap(), ReplayOutcome::NotEnded);
    assert_eq!(f.lease_one(worker).await.generation, 2);
}

#[tokio::test]
async fn another_tenant_can_do_nothing() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    let other = TenantName::new("other").unwrap();
    // It is no stranger here.
    f.submit(&job().tenant("other").build()).await;
    assert_eq!(f.store.job_cancel(&other, id).await.unwrap(), CancelOutcome::Unknown);
    assert_eq!(f.store.job_release(&other, id).await.unwrap(), ReleaseOutcome::Unknown);
    assert_eq!(
        f.store.job_replay_if_ended(&other, id, Duration::ZERO).await.unwrap(),
        ReplayOutcome::Unknown
    );
    assert_eq!(f.state(id).await, JobState::Queued);
}

#[tokio::test]
async fn many_replays_at_once_make_one_generation() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    let replays = (0..32).map(|_| {
        let (store, tenant) = (f.store.clone(), f.tenant.clone());
        tokio::spawn(async move { store.job_replay_if_ended(&tenant, id, Duration::ZERO).await.unwrap() })
    });
    let mut queued = 0;
    for replay in replays.collect::<Vec<_>>() {
        queued += u32::from(replay.await.unwrap() == ReplayOutcome::Queued);
    }
    assert_eq!((queued, f.count("ready").await), (1, 1));
}

#[tokio::test]
async fn cancel_against_settle_has_one_winner() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    for _ in 0..50 {
        let id = f.submit(&job().build()).await;
        let leased = f.lease_one(worker).await;
        let settlement = [success(worker, &leased, b"{}")];
        let (cancelled, settled) =
            tokio::join!(f.store.job_cancel(&f.tenant, id), f.store.settle_many(&settlement));
        let state = f.state(id).await;
        match cancelled.unwrap() {
            CancelOutcome::Cancelled => assert_eq!(state, JobState::Cancelled),
            CancelOutcome::AlreadyEnded(JobState::Succeeded) => assert_eq!(state, JobState::Succeeded),
            other => panic!("{other:?} with {:?}", settled.unwrap()),
        }
    }
}

#[tokio::test]
async fn a_filter_means_jobs_as_they_stand_now() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let failed = f.submit(&job().queue("q").tag("batch", "7").build()).await;
    let leased = f.lease_one(worker).await;
    let mut settlement = success(worker, &leased, b"{}");
    settlement.outcome = Outcome::Failed;
    settlement.error = Some((ErrorClass::RateLimited, "429".to_owned()));
    settlement.decision = Decision::Fail { is_retryable: true };
    f.store.settle_many(&[settlement]).await.unwrap();
    let queued = f.submit(&job().queue("q").build()).await;

    let ids = async |filter: JobFilter| f.store.job_ids_matching(&f.tenant, &filter, None, 10).await.unwrap();
    let by_state = |state| JobFilter { state: Some(state), ..JobFilter::default() };
    assert_eq!(ids(JobFilter::default()).await, [queued, failed]);
    assert_eq!(ids(by_state(JobState::Failed)).await, [failed]);
    assert_eq!(ids(by_state(JobState::Queued)).await, [queued]);
    let class = JobFilter { error_class: Some(ErrorClass::RateLimited), ..JobFilter::default() };
    assert_eq!(ids(class).await, [failed]);
    let tags = [("batch".to_owned(), "7".to_owned())].into();
    let tagged = JobFilter { tags: sluice_domain::Tags::new(tags).unwrap(), ..JobFilter::default() };
    assert_eq!(ids(tagged).await, [failed]);

    f.store.job_replay_if_ended(&f.tenant, failed, Duration::ZERO).await.unwrap();
    assert_eq!(ids(by_state(JobState::Failed)).await, []);
    assert_eq!(ids(by_state(JobState::Queued)).await, [queued, failed]);
}
