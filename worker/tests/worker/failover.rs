//! Targets of a route: the next one takes over when one fails, and gives back when it is healed.

use std::time::Duration;

use sluice_config::Configuration;
use sluice_domain::{JobId, JobState, NewJob};
use sluice_simulator::{ConfigPatch, FaultKind, FaultRule, SimulatorConfig, SimulatorHandle};
use sluice_testkit::{job, wait_until};
use sluice_worker::{Blocked, BlockedBy, ConfigurationSource, WorkMode, Worker, WorkerOptions};
use tokio::net::TcpListener;

use crate::world::{SOON, World, prompt};

/// A world with a second simulator behind the first.
struct TwoTargets {
    world: World,
    second: SimulatorHandle,
}

impl TwoTargets {
    async fn new() -> Self {
        let second = sluice_simulator::start(SimulatorConfig::default()).await.unwrap();
        Self { world: World::new().await, second }
    }

    /// Workers that try the first, then the second.
    fn options(&self, first: &str, reset_timeout: &str) -> WorkerOptions {
        let second = self.second.base_url();
        let yaml = format!(
            "upstreams:
  - {{ name: second, provider: deepseek, base_url: \"{second}\", api_key: \"${{KEY}}\", priority: 9 }}
  - {{ name: first, provider: deepseek, base_url: \"{first}\", api_key: \"${{KEY}}\", priority: 1 }}
routes:
  - {{ model: deepseek-flash, targets: [ {{ upstream: second, model: deepseek-v4-pro }}, {{ upstream: first }} ] }}
breaker: {{ reset_timeout: {reset_timeout} }}
{RETRY}"
        );
        with_yaml(&self.world, &yaml)
    }
}

const RETRY: &str =
    "queues: [{ name: default, retry: { max_attempts: 10, base_delay: 10ms, max_delay: 20ms } }]\n";

fn with_yaml(world: &World, yaml: &str) -> WorkerOptions {
    let configuration = Configuration::parse(yaml).unwrap();
    WorkerOptions { configuration: ConfigurationSource::Fixed(configuration), ..world.options() }
}

/// The simulator of the world alone.
fn one_target(world: &World, reset_timeout: &str) -> WorkerOptions {
    let base_url = world.simulator.base_url();
    let yaml = format!(
        "upstreams: [{{ name: sim, provider: deepseek, base_url: \"{base_url}\", api_key: \"${{KEY}}\" }}]
breaker: {{ reset_timeout: {reset_timeout} }}
{RETRY}"
    );
    with_yaml(world, &yaml)
}

fn jobs(count: usize) -> Vec<NewJob> {
    (0..count).map(|n| job().body(&prompt(&format!("{n}"))).build()).collect()
}

async fn submit(world: &World, count: usize) -> Vec<JobId> {
    let jobs = jobs(count);
    world.store.submit_many(&jobs).await.unwrap();
    jobs.iter().map(|job| job.id).collect()
}

async fn until_all_succeed(world: &World, jobs: &[JobId]) {
    for id in jobs {
        world.until_state(*id, JobState::Succeeded).await;
    }
}

fn fail_all(simulator: &SimulatorHandle, is_failing: bool) {
    let faults = if is_failing { vec![FaultRule::new(FaultKind::Http500, 1.0)] } else { Vec::new() };
    simulator.change(&ConfigPatch { faults: Some(faults), ..ConfigPatch::default() }).unwrap();
}

/// An address where nobody listens.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn what_cannot_be_sent_goes_to_the_next_target_at_once() {
    let targets = TwoTargets::new().await;
    let world = &targets.world;
    let ids = submit(world, 20).await;
    let options = WorkerOptions { mode: WorkMode::UntilIdle, ..targets.options(&refusing().await, "1m") };
    let handle = Worker::start(options).await.unwrap();
    tokio::time::timeout(SOON, handle.join()).await.unwrap();
    for id in ids {
        let attempts = world.attempts(id).await;
        assert_eq!((world.job(id).await.state, attempts.len()), (JobState::Succeeded, 1));
        assert_eq!(attempts[0].upstream.as_deref(), Some("second"));
        assert_eq!(attempts[0].upstream_model.as_deref(), Some("deepseek-v4-pro"));
        assert_eq!(attempts[0].answered_model.as_deref(), Some("deepseek-v4-pro"));
    }
    assert_eq!(targets.second.calls().len(), 20);
}

#[tokio::test]
async fn calls_go_to_the_next_target_and_back_when_the_first_is_healed() {
    let targets = TwoTargets::new().await;
    let world = &targets.world;
    fail_all(&world.simulator, true);
    let handle = Worker::start(targets.options(&world.simulator.base_url(), "400ms")).await.unwrap();
    until_all_succeed(world, &submit(world, 30).await).await;
    assert!(!targets.second.calls().is_empty());
    fail_all(&world.simulator, false);
    wait_until("calls to go back", SOON, async || {
        let before = targets.second.calls().len();
        until_all_succeed(world, &submit(world, 3).await).await;
        targets.second.calls().len() == before
    })
    .await;
    wait_until("the breaker to be closed", SOON, async || {
        world.store.breakers_open().await.unwrap().is_empty()
    })
    .await;
    handle.drain().await;
}

#[tokio::test]
async fn an_upstream_that_swallows_everything_is_left_within_seconds() {
    let targets = TwoTargets::new().await;
    let world = &targets.world;
    // Connections are made, and nothing ever comes of them.
    let swallowing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", swallowing.local_addr().unwrap());
    let handle = Worker::start(targets.options(&address, "1m")).await.unwrap();
    submit(world, 3).await;
    wait_until("the breaker to open", SOON, async || {
        world.store.breakers_open().await.unwrap().iter().any(|open| open.reason == "silent")
    })
    .await;
    until_all_succeed(world, &submit(world, 5).await).await;
    assert_eq!(targets.second.calls().len(), 5);
    handle.stop_now().await;
}

#[tokio::test]
async fn under_total_failure_jobs_wait_and_hardly_call() {
    const JOBS: usize = 100;
    let world = World::new().await;
    fail_all(&world.simulator, true);
    let handles = [
        Worker::start(one_target(&world, "20s")).await.unwrap(),
        Worker::start(one_target(&world, "20s")).await.unwrap(),
    ];
    let ids = submit(&world, JOBS).await;
    let by = BlockedBy::UpstreamFailing("sim".to_owned());
    let blocked = [Blocked { model: "deepseek-flash".to_owned(), by }];
    wait_until("both to know", SOON, async || handles.iter().all(|handle| handle.blocked() == blocked)).await;
    wait_until("a trial to fail", SOON, async || {
        world.store.breakers_open().await.unwrap().iter().any(|open| open.failed_trials > 0)
    })
    .await;
    let calls = world.simulator.calls().len();
    assert!(calls <= JOBS * 11 / 10, "{calls} calls");
    fail_all(&world.simulator, false);
    until_all_succeed(&world, &ids).await;
    assert_eq!(world.store.breakers_open().await.unwrap(), []);
    for handle in handles {
        handle.drain().await;
    }
}

#[tokio::test]
async fn a_worker_that_works_until_idle_waits_for_an_upstream_that_fails() {
    let world = World::new().await;
    fail_all(&world.simulator, true);
    let ids = submit(&world, 20).await;
    let options = WorkerOptions { mode: WorkMode::UntilIdle, ..one_target(&world, "500ms") };
    let handle = Worker::start(options).await.unwrap();
    wait_until("the jobs to wait", SOON, async || !handle.blocked().is_empty()).await;
    fail_all(&world.simulator, false);
    tokio::time::timeout(SOON, handle.join()).await.expect("it ends when all is done");
    for id in ids {
        assert_eq!(world.job(id).await.state, JobState::Succeeded);
    }
}

#[tokio::test]
async fn a_429_and_the_jobs_own_errors_open_nothing() {
    let world = World::new().await;
    let bad = (0..20).map(|n| job().body(&prompt(&format!("{n} [[sim:http_422]]"))).build());
    let busy = (0..20).map(|n| job().body(&prompt(&format!("{n} [[sim:http_429 times=1]]"))).build());
    let all: Vec<_> = bad.chain(busy).collect();
    world.store.submit_many(&all).await.unwrap();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, ..one_target(&world, "1m") };
    let handle = Worker::start(options).await.unwrap();
    tokio::time::timeout(Duration::from_mins(1), handle.join()).await.unwrap();
    assert_eq!(world.store.breakers_open().await.unwrap(), []);
    assert_eq!(
        world.store.jobs_ended_among(&all.iter().map(|job| job.id).collect::<Vec<_>>()).await.unwrap().len(),
        40
    );
}
