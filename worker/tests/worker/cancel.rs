//! Cancels that meet a running job.

use sluice_domain::{JobState, Outcome};
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
