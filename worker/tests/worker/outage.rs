//! The database goes away and comes back.

use std::time::Duration;

use sluice_domain::{JobState, Outcome};
use sluice_testkit::{TestCluster, job, wait_until};

use crate::world::{SOON, World, job_with};

#[tokio::test]
async fn an_answer_that_came_while_the_database_was_down_is_written_when_it_is_back() {
    if !TestCluster::is_possible() {
        return;
    }
    let cluster = TestCluster::start().await;
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=800").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    cluster.kill().await;
    world.until_running(0).await;
    assert_eq!(handle.in_flight(), 1);
    cluster.start_again().await;
    world.until_state(id, JobState::Succeeded).await;
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Succeeded)]);
    let next = world.submit(job().build()).await;
    world.until_state(next, JobState::Succeeded).await;
    assert_eq!(world.simulator.calls().len(), 2);
    handle.drain().await;
}

#[tokio::test]
async fn a_worker_that_can_not_beat_starts_no_call_after_its_lease() {
    if !TestCluster::is_possible() {
        return;
    }
    let cluster = TestCluster::start().await;
    let world = World::at(cluster.url()).await;
    let mut options = world.options();
    options.concurrency = 1;
    options.timing.lease_ttl = Duration::from_millis(1500);
    let quick = job().build();
    let long = job_with("none latency_ms=3000").build();
    let next = job().build();
    // The quick end of the first lets one be fetched ahead of the slot that the second takes.
    world.store.submit_many(&[quick, long.clone(), next.clone()]).await.unwrap();
    let handle = sluice_worker::Worker::start(options).await.unwrap();
    wait_until("the last to be leased", SOON, async || world.job(next.id).await.state == JobState::Running)
        .await;
    world.until_running(1).await;
    cluster.pause();
    world.until_running(0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.simulator.calls().len(), 2, "no call while nobody can beat");
    cluster.resume();
    world.until_state(long.id, JobState::Succeeded).await;
    world.until_state(next.id, JobState::Succeeded).await;
    wait_until("all to be written", SOON, async || handle.in_flight() == 0).await;
    assert_eq!(world.simulator.calls().len(), 3);
    handle.drain().await;
}
