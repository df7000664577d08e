//! Which jobs are leased, and in which order.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sluice_domain::{ErrorClass, JobState, QueueName};
use sluice_testkit::job;
use sluice_worker::{WorkMode, Worker, WorkerOptions};

use crate::world::{World, prompt, tenant};

#[tokio::test]
async fn the_most_urgent_job_goes_first() {
    let world = World::new().await;
    for (text, priority) in [("low", 1), ("middle", 3), ("high", 5)] {
        let mut body = prompt(text);
        body["user"] = text.into();
        world.submit(job().priority(priority).body(&body).build()).await;
    }
    let options = WorkerOptions { mode: WorkMode::UntilIdle, concurrency: 1, ..world.options() };
    Worker::start(options).await.unwrap().join().await;
    let order: Vec<_> =
        world.simulator.calls().into_iter().filter_map(|call| call.arrival.custom_key).collect();
    assert_eq!(order, ["high", "middle", "low"]);
}

#[tokio::test]
async fn a_model_without_a_route_fails_with_its_name() {
    let world = World::new().await;
    let id = world.submit(job().model("gpt-nowhere").build()).await;
    world.work_all().await;
    let failed = world.job(id).await;
    let error = failed.error.unwrap();
    assert_eq!((failed.state, error.class), (JobState::Failed, ErrorClass::NoRoute));
    assert!(error.message.contains("\"gpt-nowhere\""), "{}", error.message);
    assert_eq!(world.simulator.calls().len(), 0);
}

#[tokio::test]
async fn only_named_queues_are_worked() {
    let world = World::new().await;
    let mine = world.submit(job().queue("mine").build()).await;
    let other = world.submit(job().queue("other").build()).await;
    let queues = Some(vec![QueueName::new("mine").unwrap()]);
    let options = WorkerOptions { mode: WorkMode::UntilIdle, queues, ..world.options() };
    Worker::start(options).await.unwrap().join().await;
    assert_eq!(world.job(mine).await.state, JobState::Succeeded);
    assert_eq!(world.job(other).await.state, JobState::Queued);
}

#[tokio::test]
async fn the_queue_of_a_run_is_left_to_who_names_it() {
    let world = World::new().await;
    let id = world.submit(job().queue("run:one").build()).await;
    world.work_all().await;
    assert_eq!(world.job(id).await.state, JobState::Queued);
    let queues = Some(vec![QueueName::new("run:one").unwrap()]);
    let options = WorkerOptions { mode: WorkMode::UntilIdle, queues, ..world.options() };
    Worker::start(options).await.unwrap().join().await;
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
}

#[tokio::test]
async fn a_worker_that_ends_when_idle_waits_for_scheduled_jobs() {
    let world = World::new().await;
    let id = world.submit(job().run_at(in_one_second()).build()).await;
    world.work_all().await;
    let done = world.job(id).await;
    assert_eq!(done.state, JobState::Succeeded);
    assert!(done.started_at >= done.run_at);
}

#[expect(clippy::disallowed_methods, reason = "a schedule is a time of the wall clock")]
fn in_one_second() -> DateTime<Utc> {
    Utc::now() + Duration::from_secs(1)
}

#[tokio::test]
async fn a_sleeping_worker_hears_of_a_new_job() {
    let world = World::new().await;
    let mut options = world.options();
    // So long that only the bell can be the reason.
    options.timing.poll_interval = Duration::from_hours(1);
    let handle = Worker::start(options).await.unwrap();
    sluice_testkit::wait_until("the worker to sleep", crate::world::SOON, async || {
        world.store.workers().await.unwrap().iter().any(|worker| worker.is_asleep)
    })
    .await;
    let id = world.submit(job().build()).await;
    world.store.wake_sleepers().await.unwrap();
    world.until_state(id, JobState::Succeeded).await;
    handle.drain().await;
}

#[tokio::test]
async fn a_paused_queue_is_not_leased_from() {
    let world = World::new().await;
    let queue = QueueName::default();
    world.store.queue_pause(&tenant(), &queue).await.unwrap();
    let id = world.submit(job().build()).await;
    world.work_all().await;
    assert_eq!(world.job(id).await.state, JobState::Queued);
    world.store.queue_resume(&tenant(), &queue).await.unwrap();
    world.work_all().await;
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
}
