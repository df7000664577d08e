//! What becomes of a job by its calls.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sluice_domain::{ErrorClass, HoldReason, JobState, OnUnknown, Outcome};
use sluice_testkit::job;
use sluice_worker::{WorkMode, Worker, WorkerOptions};
use tokio::sync::mpsc;

use crate::world::{World, job_with, prompt};

#[tokio::test]
async fn a_job_succeeds_and_its_usage_and_cost_are_kept() {
    let world = World::new().await;
    let id = world.submit(job().build()).await;
    world.work_all().await;
    let done = world.job(id).await;
    let result = done.result.unwrap();
    assert_eq!((done.state, result.status_code, done.tries), (JobState::Succeeded, 200, 1));
    let billed = world.simulator.stats();
    assert_eq!(result.usage.unwrap().output_tokens, billed.output_tokens);
    assert_eq!(result.cost, billed.cost_nano_usd);
    let attempt = world.attempts(id).await.remove(0);
    let call_id = world.simulator.calls().remove(0).arrival.call_id;
    assert_eq!(attempt.call_id.map(|id| id.to_string()), call_id);
    assert_eq!((attempt.upstream.as_deref(), attempt.outcome), (Some("sim"), Some(Outcome::Succeeded)));
}

#[tokio::test]
async fn a_failed_call_is_tried_again() {
    let world = World::new().await;
    let id = world.submit(job_with("http_500 times=1").build()).await;
    world.work_all().await;
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Retry), Some(Outcome::Succeeded)]);
}

#[tokio::test]
async fn tries_come_to_an_end_and_the_last_answer_is_kept() {
    let world = World::new().await;
    let id = world.submit(job_with("http_500").build()).await;
    world.work_all().await;
    let failed = world.job(id).await;
    assert_eq!((failed.state, failed.tries), (JobState::Failed, 3));
    assert_eq!(failed.error.unwrap().class, ErrorClass::ServerError);
    assert_eq!(failed.result.unwrap().status_code, 500);
    assert_eq!(world.simulator.calls().len(), 3);
}

#[tokio::test]
async fn a_wrong_request_fails_at_once() {
    let world = World::new().await;
    let id = world.submit(job_with("http_422").build()).await;
    world.work_all().await;
    let failed = world.job(id).await;
    assert_eq!((failed.state, failed.tries), (JobState::Failed, 1));
    assert_eq!(failed.error.unwrap().class, ErrorClass::InvalidRequest);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Failed)]);
}

#[tokio::test]
async fn a_refusal_spends_no_try() {
    let world = World::new().await;
    let id = world.submit(job_with("http_503 times=4").max_attempts(1).build()).await;
    world.work_all().await;
    let done = world.job(id).await;
    assert_eq!((done.state, done.tries), (JobState::Succeeded, 1));
    assert_eq!(world.simulator.calls().len(), 5);
}

#[tokio::test]
async fn an_unknown_answer_is_marked_and_the_call_made_again() {
    let world = World::new().await;
    let id = world.submit(job_with("reset_before_answer times=1").build()).await;
    world.work_all().await;
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Unknown), Some(Outcome::Succeeded)]);
}

#[tokio::test]
async fn an_unknown_answer_is_never_paid_twice_where_the_job_says_hold() {
    let world = World::new().await;
    let id = world.submit(job_with("reset_before_answer").on_unknown(OnUnknown::Hold).build()).await;
    world.work_all().await;
    let held = world.job(id).await;
    assert_eq!((held.state, held.hold_reason), (JobState::Held, Some(HoldReason::UnknownOutcome)));
    assert_eq!(world.simulator.calls().len(), 1);
}

#[tokio::test]
async fn what_can_not_be_sent_spends_no_try() {
    let mut world = World::new().await;
    let gone = std::mem::replace(
        &mut world.simulator,
        sluice_simulator::start(sluice_simulator::SimulatorConfig::default()).await.unwrap(),
    );
    let base_url = gone.base_url();
    gone.shutdown().await;
    let id = world.submit(job().build()).await;
    let yaml = world.yaml().replace(&world.simulator.base_url(), &base_url);
    let configuration = sluice_config::Configuration::parse(&yaml).unwrap();
    let configuration = sluice_worker::ConfigurationSource::Fixed(configuration);
    let handle = Worker::start(WorkerOptions { configuration, ..world.options() }).await.unwrap();
    sluice_testkit::wait_until("two attempts", crate::world::SOON, async || {
        world.outcomes(id).await.iter().filter(|outcome| **outcome == Some(Outcome::NotSent)).count() >= 2
    })
    .await;
    handle.drain().await;
    let waiting = world.job(id).await;
    assert_eq!((waiting.state, waiting.tries), (JobState::Queued, 0));
}

#[tokio::test]
async fn a_call_ends_with_the_deadline_of_its_job() {
    let world = World::new().await;
    let deadline = in_one_second();
    let id = world.submit(job_with("hang").deadline(deadline).build()).await;
    world.work_all().await;
    let failed = world.job(id).await;
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(failed.error.unwrap().class, ErrorClass::DeadlineExceeded);
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Unknown)]);
}

#[tokio::test]
async fn a_deadline_that_passed_in_the_line_ends_the_job_without_a_scheduler() {
    let world = World::new().await;
    let id = world.submit(job().deadline(in_one_second() - Duration::from_secs(2)).build()).await;
    world.work_all().await;
    let failed = world.job(id).await;
    assert_eq!((failed.state, failed.error.unwrap().class), (JobState::Failed, ErrorClass::DeadlineExceeded));
    assert_eq!(world.simulator.calls().len(), 0);
}

#[expect(clippy::disallowed_methods, reason = "a deadline is a time of the wall clock")]
fn in_one_second() -> DateTime<Utc> {
    Utc::now() + Duration::from_secs(1)
}

#[tokio::test]
async fn a_worker_tells_of_every_attempt_that_was_settled() {
    let world = World::new().await;
    let good = world.submit(job().build()).await;
    let bad = world.submit(job_with("http_422").build()).await;
    let (sender, mut settled) = mpsc::unbounded_channel();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, settled: Some(sender), ..world.options() };
    Worker::start(options).await.unwrap().join().await;
    let mut told = Vec::new();
    while let Ok(group) = settled.try_recv() {
        told.extend(group.into_iter().map(|job| (job.job_id, job.state)));
    }
    told.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(told, [(good, Some(JobState::Succeeded)), (bad, Some(JobState::Failed))]);
}

#[tokio::test]
async fn a_thousand_jobs_are_each_called_once() {
    let world = World::new().await;
    let jobs: Vec<_> = (0..1000).map(|n| job().body(&prompt(&format!("question {n}"))).build()).collect();
    world.store.submit_many(&jobs).await.unwrap();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, concurrency: 100, ..world.options() };
    Worker::start(options).await.unwrap().join().await;
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(world.store.jobs_ended_among(&ids).await.unwrap().len(), 1000);
    let stats = world.simulator.stats();
    assert_eq!((stats.calls, stats.answered), (1000, 1000));
    assert!(stats.max_concurrency_seen <= 100, "{} at once", stats.max_concurrency_seen);
}
