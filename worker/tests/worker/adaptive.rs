//! Calls at once that the provider does not tell of: found out by trying, by all workers together.

use std::time::Duration;

use sluice_config::Configuration;
use sluice_domain::JobState;
use sluice_simulator::{ConfigPatch, Limits};
use sluice_testkit::wait_until;
use sluice_worker::{ConfigurationSource, Worker, WorkerHandle, WorkerOptions};
use tokio::time::{Instant, timeout};

use crate::world::{World, job_with};

/// Three hundred jobs of 100 ms, eight at once, take four seconds at the least.
const JOBS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(45);

async fn start(world: &World, adaptive: &str) -> WorkerHandle {
    let yaml = format!("{}limits: [ {{ account: main, adaptive: {adaptive} }} ]\n", world.yaml());
    let configuration = ConfigurationSource::Fixed(Configuration::parse(&yaml).unwrap());
    Worker::start(WorkerOptions { configuration, concurrency: 50, ..world.options() }).await.unwrap()
}

fn allow(world: &World, concurrency: u32) {
    let limits = Limits { concurrency: Some(concurrency), ..Limits::default() };
    world.simulator.change(&ConfigPatch { limits: Some(limits), ..ConfigPatch::default() }).unwrap();
}

#[tokio::test]
async fn two_workers_find_out_what_nobody_tells_them_and_lose_no_time_by_it() {
    let world = World::new().await;
    allow(&world, 8);
    let (one, two) = (start(&world, "{}").await, start(&world, "{}").await);
    let jobs = job_with("none latency_ms=100").times(JOBS);
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let begun = Instant::now();
    world.store.submit_many(&jobs).await.unwrap();
    timeout(PATIENCE, async {
        wait_until("all jobs to end", PATIENCE, async || {
            world.store.jobs_ended_among(&ids).await.unwrap().len() == JOBS
        })
        .await;
    })
    .await
    .expect("nothing stalls");
    let took = begun.elapsed();
    let stats = world.simulator.stats();
    let refused = stats.statuses.get(&429).copied().unwrap_or(0);
    assert!(took < Duration::from_secs(15), "{took:?}, {refused} refused");
    assert!(refused <= 60, "{refused} refused");
    assert_eq!(world.count("SELECT count(*) FROM sluice.cooldowns").await, 0, "no gate was closed for it");
    let belief = world.store.limits().await.unwrap().remove(0);
    assert!((5..=12).contains(&belief.limit.cap), "{belief:?}");
    assert_eq!(belief.used, 0);
    one.drain().await;
    two.drain().await;
}

#[tokio::test]
async fn a_floor_is_kept_and_no_job_fails_for_refusals() {
    let world = World::new().await;
    allow(&world, 3);
    let handle = start(&world, "{ floor: 2, ceiling: 6 }").await;
    let jobs = job_with("none latency_ms=50").times(40);
    world.store.submit_many(&jobs).await.unwrap();
    for job in &jobs {
        world.until_state(job.id, JobState::Succeeded).await;
    }
    let known = world.store.limits().await.unwrap().remove(0);
    assert!((2..=6).contains(&known.limit.cap), "{known:?}");
    assert_eq!((known.limit.floor, known.belief.unwrap().ceiling), (Some(2), 6));
    assert!(world.simulator.stats().max_concurrency_seen <= 3);
    handle.drain().await;
}
