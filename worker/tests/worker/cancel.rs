//! Cancels that meet a running job.

use sluice_domain::{JobState, OnUnknown, Outcome};
use sluice_store::{CancelOutcome, Doorbell};
use sluice_testkit::wait_until;

use crate::world::{SOON, World, job_with, tenant};

#[tokio::test]
async fn a_cancelled_job_lets_go_of_its_call() {
    let world = World::new().await;
    let id = world.submit(job_with("hang").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    assert_eq!(world.store.job_cancel(&tenant(), id).await.unwrap(), CancelOutcome::Cancelled);
    world.store.ring(Doorbell::Cancelled).await.unwrap();
    wait_until("the call to be let go", SOON, async || handle.in_flight() == 0).await;
    world.until_running(0).await;
    assert_eq!(world.job(id).await.state, JobState::Cancelled);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Cancelled)]);
    handle.drain().await;
}

#[tokio::test]
async fn an_answer_that_is_there_when_the_cancel_is_heard_is_kept() {
    let world = World::new().await;
    let id = world.submit(job_with("none latency_ms=1000").build()).await;
    let mut options = world.options();
    // The cancel comes to nobody's ears before the answer does.
    options.timing.beat_interval = std::time::Duration::from_secs(4);
    let handle = sluice_worker::Worker::start(options).await.unwrap();
    world.until_running(1).await;
    world.store.job_cancel(&tenant(), id).await.unwrap();
    wait_until("the answer to be written", SOON, async || handle.in_flight() == 0).await;
    let job = world.job(id).await;
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Succeeded)]);
    assert!(job.result.is_some_and(|result| result.is_late && !result.body.is_empty()));
    handle.drain().await;
}

#[tokio::test]
async fn a_cancel_that_a_fail_over_takes_back_repeats_no_call_in_silence() {
    let world = World::new().await;
    let holding = world.submit(job_with("hang").on_unknown(OnUnknown::Hold).build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    wait_until("the call", SOON, async || world.simulator.stats().running == 1).await;
    // The worker is told of a cancel that the new primary knows nothing of.
    let told = sqlx::query(
        "INSERT INTO sluice.cancelled_leases (job_id, lease_id, incarnation_id, lane_id, generation, lease_no, cancelled_at)
         SELECT job_id, lease_id, incarnation_id, lane_id, generation, lease_no, clock_timestamp() FROM sluice.running",
    );
    told.execute(world.pool()).await.unwrap();
    world.store.ring(Doorbell::Cancelled).await.unwrap();
    wait_until("the call to be let go", SOON, async || handle.in_flight() == 0).await;
    world.until_running(0).await;
    let forgotten = sqlx::query("DELETE FROM sluice.cancelled_leases");
    forgotten.execute(world.pool()).await.unwrap();
    assert_eq!(world.job(holding).await.state, JobState::Held);
    assert_eq!(world.outcomes(holding).await, [Some(Outcome::Unknown)]);
    handle.drain().await;
}
