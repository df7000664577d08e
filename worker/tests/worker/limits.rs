//! Limits over all workers: used to the brim, never exceeded, and in nobody's way who does not need them.

use std::time::Duration;

use serde_json::json;
use sluice_config::Configuration;
use sluice_domain::{ErrorClass, JobId, JobState, NewJob};
use sluice_simulator::{ConfigPatch, Limits};
use sluice_testkit::{job, wait_until};
use sluice_worker::{ConfigurationSource, WorkMode, Worker, WorkerHandle, WorkerOptions};

use crate::world::{SOON, World, job_with, prompt};

/// A worker whose configuration declares `limits` besides, as YAML.
async fn start(world: &World, limits: &str, mode: WorkMode) -> WorkerHandle {
    let yaml = format!("{}{limits}", world.yaml().replace("[ { upstream: sim } ] }\n", "[ { upstream: sim } ] }\n  - { model: other, targets: [ { upstream: sim, model: deepseek-v4-pro } ] }\n"));
    let configuration = ConfigurationSource::Fixed(Configuration::parse(&yaml).unwrap());
    Worker::start(WorkerOptions { configuration, mode, ..world.options() }).await.unwrap()
}

async fn all_end(world: &World, jobs: &[JobId]) {
    wait_until("all jobs to end", SOON, async || {
        world.store.jobs_ended_among(jobs).await.unwrap().len() == jobs.len()
    })
    .await;
}

async fn submit(world: &World, jobs: Vec<NewJob>) -> Vec<JobId> {
    world.store.submit_many(&jobs).await.unwrap();
    jobs.iter().map(|job| job.id).collect()
}

fn simulate(world: &World, limits: Limits) {
    world.simulator.change(&ConfigPatch { limits: Some(limits), ..ConfigPatch::default() }).unwrap();
}

#[tokio::test]
async fn workers_together_use_all_slots_and_never_one_more() {
    let world = World::new().await;
    simulate(&world, Limits { concurrency: Some(4), ..Limits::default() });
    let declared = "limits: [ { account: main, model: deepseek-flash, concurrency: 4 } ]\n";
    let (one, two) =
        (start(&world, declared, WorkMode::Forever).await, start(&world, declared, WorkMode::Forever).await);
    let slow = job_with("none latency_ms=30").times(60);
    let jobs = submit(&world, slow).await;
    all_end(&world, &jobs).await;
    let stats = world.simulator.stats();
    assert_eq!((stats.calls, stats.max_concurrency_seen, stats.statuses.get(&429)), (60, 4, None));
    one.drain().await;
    two.drain().await;
}

#[tokio::test]
async fn requests_keep_to_their_window() {
    let world = World::new().await;
    simulate(&world, Limits { requests_per_minute: Some(10), window_ms: 1_000, ..Limits::default() });
    let declared = "limits: [ { account: main, requests_per_second: 10 } ]\n";
    let (one, two) =
        (start(&world, declared, WorkMode::Forever).await, start(&world, declared, WorkMode::Forever).await);
    let jobs = submit(&world, job().times(35)).await;
    all_end(&world, &jobs).await;
    let stats = world.simulator.stats();
    assert_eq!((stats.calls, stats.statuses.get(&429)), (35, None));
    one.drain().await;
    two.drain().await;
}

#[tokio::test]
async fn tokens_keep_to_their_window_though_jobs_ask_for_more_than_they_use() {
    let world = World::new().await;
    simulate(&world, Limits { tokens_per_minute: Some(2_000), window_ms: 1_000, ..Limits::default() });
    let declared = "limits: [ { account: main, tokens_per_second: 2000 } ]\n";
    let asking = |n: u32| {
        let text = format!("{n} [[sim:none latency_ms=20 tokens=10]]");
        job().body(&json!({"model": "deepseek-flash", "max_tokens": 500, "messages": [{"role": "user", "content": text}]})).build()
    };
    let jobs = submit(&world, (0..20).map(asking).collect()).await;
    let handle = start(&world, declared, WorkMode::UntilIdle).await;
    all_end(&world, &jobs).await;
    let stats = world.simulator.stats();
    assert_eq!((stats.calls, stats.statuses.get(&429)), (20, None));
    tokio::time::timeout(SOON, handle.join()).await.unwrap();
}

#[tokio::test]
async fn a_lane_without_room_is_in_nobodys_way() {
    let world = World::new().await;
    let declared = "limits: [ { account: main, model: deepseek-flash, concurrency: 1 } ]\n";
    let handle = start(&world, declared, WorkMode::Forever).await;
    let held = submit(&world, job_with("none latency_ms=600000").times(20)).await;
    world.until_running(1).await;
    let free = world.submit(job().model("other").build()).await;
    world.until_state(free, JobState::Succeeded).await;
    assert_eq!(world.simulator.stats().running, 1);
    for id in held {
        world.store.job_cancel(&crate::world::tenant(), id).await.unwrap();
    }
    handle.drain().await;
}

#[tokio::test]
async fn a_queue_runs_no_more_jobs_at_once_than_it_may() {
    let world = World::new().await;
    let declared = "  - { name: narrow, max_running: 2 }\n";
    let (one, two) =
        (start(&world, declared, WorkMode::Forever).await, start(&world, declared, WorkMode::Forever).await);
    let jobs = job_with("none latency_ms=20").queue("narrow").times(20);
    let jobs = submit(&world, jobs).await;
    all_end(&world, &jobs).await;
    assert_eq!(world.simulator.stats().max_concurrency_seen, 2);
    one.drain().await;
    two.drain().await;
}

#[tokio::test]
async fn a_job_larger_than_a_whole_limit_fails_at_once_in_words_that_say_so() {
    let world = World::new().await;
    let declared = "limits: [ { account: main, model: deepseek-flash, tokens_per_minute: 1000 } ]\n";
    let mut body = prompt("hello");
    body["max_tokens"] = json!(2_000);
    let large = world.submit(job().body(&body).build()).await;
    let small = world.submit(job().build()).await;
    let handle = start(&world, declared, WorkMode::UntilIdle).await;
    tokio::time::timeout(SOON, handle.join()).await.unwrap();
    assert_eq!(world.job(small).await.state, JobState::Succeeded);
    let failed = world.job(large).await;
    let error = failed.error.unwrap();
    assert_eq!((failed.state, error.class), (JobState::Failed, ErrorClass::InvalidRequest));
    assert!(error.message.contains("1000 tokens a minute"), "{}", error.message);
    assert_eq!(world.simulator.calls().len(), 1);
}

#[tokio::test]
async fn a_worker_ends_only_when_what_waits_for_room_is_done() {
    let world = World::new().await;
    let declared = "limits: [ { account: main, requests_per_second: 2 } ]\n";
    let jobs = submit(&world, job().times(5)).await;
    let handle = start(&world, declared, WorkMode::UntilIdle).await;
    tokio::time::timeout(SOON, handle.join()).await.unwrap();
    assert_eq!(world.store.jobs_ended_among(&jobs).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_raised_limit_counts_at_once() {
    let world = World::new().await;
    let with = |cap: u32| format!("{}limits: [ {{ account: main, concurrency: {cap} }} ]\n", world.yaml());
    let apply = async |version: i64, cap: u32| {
        let limits = Configuration::parse(&with(cap)).unwrap().declared_limits();
        world
            .store
            .configuration_apply_if_newest(version, &with(cap), &limits, "test")
            .await
            .unwrap()
            .unwrap()
    };
    apply(0, 1).await;
    let options = WorkerOptions { configuration: ConfigurationSource::Database, ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    let jobs = submit(&world, job_with("none latency_ms=600000").times(5)).await;
    world.until_running(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.simulator.stats().running, 1);
    apply(1, 3).await;
    world.until_running(3).await;
    for id in jobs {
        world.store.job_cancel(&crate::world::tenant(), id).await.unwrap();
    }
    handle.drain().await;
}
