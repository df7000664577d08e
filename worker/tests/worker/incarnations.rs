//! Workers that were taken for dead, and leases that they never heard of.

use std::time::Duration;

use sluice_domain::{JobState, OnUnknown, Outcome, PairFloors, QueueName};
use sluice_store::{BoardEntry, Grant};
use sluice_testkit::{job, wait_until};
use sluice_worker::Worker;

use crate::world::{SOON, World, job_with, tenant};

#[tokio::test]
async fn the_answer_of_a_dead_incarnation_ends_a_job_that_still_waits() {
    let world = World::new().await;
    let id = world.submit(job_with("none latency_ms=1500").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    let dead = handle.incarnation_id();
    // Paused, so that the job waits and is not leased again.
    world.store.queue_pause(&tenant(), &QueueName::default()).await.unwrap();
    assert_eq!(world.store.incarnation_end(dead).await.unwrap(), 1);
    wait_until("a new incarnation", SOON, async || handle.incarnation_id() != dead).await;
    let done = world.until_state(id, JobState::Succeeded).await;
    assert!(done.result.unwrap().is_late);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Lost)]);
    assert_eq!(world.simulator.calls().len(), 1);
    handle.drain().await;
}

#[tokio::test]
async fn the_answer_of_a_dead_incarnation_is_kept_beside_that_of_the_next() {
    let world = World::new().await;
    let id = world.submit(job_with("none latency_ms=1500").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    let dead = handle.incarnation_id();
    world.store.incarnation_end(dead).await.unwrap();
    let done = world.until_state(id, JobState::Succeeded).await;
    wait_until("both to be written", SOON, async || handle.in_flight() == 0).await;
    assert!(!done.result.unwrap().is_late);
    let attempts = world.attempts(id).await;
    let kept: Vec<_> = attempts.iter().map(|a| (a.outcome, a.is_late, a.status_code)).collect();
    assert_eq!(kept, [(Some(Outcome::Lost), true, Some(200)), (Some(Outcome::Succeeded), false, Some(200))]);
    assert_eq!(attempts[0].incarnation_id, dead);
    assert_eq!(attempts[1].incarnation_id, handle.incarnation_id());
    handle.drain().await;
}

#[tokio::test]
async fn a_lease_whose_answer_never_arrived_is_given_back() {
    let world = World::new().await;
    let mut options = world.options();
    options.timing.lease_ttl = Duration::from_secs(1);
    // So long that the worker is not faster than this test.
    options.timing.poll_interval = Duration::from_secs(5);
    let handle = Worker::start(options).await.unwrap();
    wait_until("the worker to sleep", SOON, async || {
        world.store.workers().await.unwrap().iter().any(|worker| worker.is_asleep)
    })
    .await;
    let mut stray = None;
    // A worker that looks just then is faster than this test, whatever its poll interval.
    while stray.is_none() {
        let id = world.submit(job().build()).await;
        let board = world.store.board(None, None).await.unwrap();
        let grant = |entry: &BoardEntry| Grant {
            lane_id: entry.lane_id,
            priority: entry.priority,
            limit: 1,
            floors: PairFloors::default(),
        };
        let grants: Vec<Grant> = board.iter().map(grant).collect();
        // As if the worker had asked and the answer were lost.
        let leased = world.store.lease_many(handle.incarnation_id(), &grants, 1).await.unwrap();
        stray = leased.iter().any(|leased| leased.job_id == id).then_some(id);
    }
    let id = stray.unwrap();
    let done = world.until_state(id, JobState::Succeeded).await;
    assert_eq!((done.tries, done.crashes), (1, 0));
    assert_eq!(world.outcomes(id).await, [Some(Outcome::NotSent), Some(Outcome::Succeeded)]);
    handle.drain().await;
}

#[tokio::test]
async fn a_call_whose_end_a_fail_over_took_is_never_given_back_as_not_sent() {
    let world = World::new().await;
    let mut options = world.options();
    options.timing.lease_ttl = Duration::from_secs(1);
    let handle = Worker::start(options).await.unwrap();
    let retried = world.submit(job().build()).await;
    world.until_state(retried, JobState::Succeeded).await;
    wait_until("its end to be acknowledged", SOON, async || handle.in_flight() == 0).await;
    world.take_end_back(handle.incarnation_id()).await;
    let done = world.until_state(retried, JobState::Succeeded).await;
    assert_eq!((done.crashes, done.tries), (1, 1));
    assert_eq!(world.outcomes(retried).await, [Some(Outcome::Lost), Some(Outcome::Succeeded)]);
    assert_eq!(world.simulator.calls().len(), 2, "repeated, and the ledger says that it may have been");
    handle.drain().await;
}

#[tokio::test]
async fn a_call_whose_end_a_fail_over_took_is_not_repeated_where_the_job_says_hold() {
    let world = World::new().await;
    let mut options = world.options();
    options.timing.lease_ttl = Duration::from_secs(1);
    let handle = Worker::start(options).await.unwrap();
    let id = world.submit(job().on_unknown(OnUnknown::Hold).build()).await;
    world.until_state(id, JobState::Succeeded).await;
    wait_until("its end to be acknowledged", SOON, async || handle.in_flight() == 0).await;
    world.take_end_back(handle.incarnation_id()).await;
    world.until_state(id, JobState::Held).await;
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Lost)]);
    assert_eq!(world.simulator.calls().len(), 1);
    handle.drain().await;
}
