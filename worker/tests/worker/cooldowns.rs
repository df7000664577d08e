//! What an upstream asks for closes its gate for all workers, and no job pays for it.

use std::time::Duration;

use sluice_config::Configuration;
use sluice_domain::{JobState, Outcome};
use sluice_simulator::{ConfigPatch, FaultKind, FaultRule};
use sluice_testkit::{job, wait_until};
use sluice_worker::{ConfigurationSource, Worker, WorkerOptions};

use crate::world::{SOON, World, job_with};

#[tokio::test]
async fn one_refusal_with_retry_after_holds_back_all_workers_and_one_call_comes_first_after_it() {
    let world = World::new().await;
    let first = world.submit(job_with("http_429 times=1 retry_after=2").build()).await;
    let refused = world.start().await;
    wait_until("the first call to be refused", SOON, async || {
        world.simulator.stats().statuses.contains_key(&429)
    })
    .await;
    wait_until("it to be written down", SOON, async || {
        world.count("SELECT count(*) FROM sluice.cooldowns").await == 1
    })
    .await;
    // One that begins now has not met it.
    let other = Worker::start(WorkerOptions { concurrency: 50, ..world.options() }).await.unwrap();
    let jobs = job_with("none latency_ms=1").times(40);
    world.store.submit_many(&jobs).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    wait_until("all to end", SOON, async || {
        world.store.jobs_ended_among(&ids).await.unwrap().len() == ids.len()
    })
    .await;
    world.until_state(first, JobState::Succeeded).await;
    let calls = world.simulator.calls();
    let at = |index: usize| calls[index].arrival.arrived_at;
    let since_refusal = (at(1) - at(0)).to_std().unwrap();
    assert!(since_refusal >= Duration::from_secs(2), "the next call came after {since_refusal:?}");
    let since_probe = (at(2) - at(1)).to_std().unwrap();
    assert!(
        since_probe >= Duration::from_millis(500),
        "one call is alone; the next came after {since_probe:?}"
    );
    let view = world.job(first).await;
    assert_eq!(
        (view.tries, world.outcomes(first).await),
        (1, vec![Some(Outcome::Retry), Some(Outcome::Succeeded)])
    );
    refused.drain().await;
    other.drain().await;
}

#[tokio::test]
async fn refusals_without_a_word_close_the_gate_only_when_nothing_gets_through() {
    let world = World::new().await;
    // Else the breaker is faster: such refusals are failures, too.
    let yaml = format!("{}breaker: {{ failure_threshold: 100 }}\n", world.yaml());
    let configuration = ConfigurationSource::Fixed(Configuration::parse(&yaml).unwrap());
    let handle = Worker::start(WorkerOptions { configuration, ..world.options() }).await.unwrap();
    let id = world.submit(job_with("http_429 times=2").build()).await;
    world.until_state(id, JobState::Succeeded).await;
    assert_eq!(world.count("SELECT count(*) FROM sluice.cooldowns").await, 0);
    let all = FaultRule::new(FaultKind::Http503, 1.0);
    world.simulator.change(&ConfigPatch { faults: Some(vec![all]), ..ConfigPatch::default() }).unwrap();
    let ids = job().times(10);
    world.store.submit_many(&ids).await.unwrap();
    wait_until("the gate to be closed", SOON, async || {
        world.count("SELECT count(*) FROM sluice.cooldowns WHERE kind = 'upstream' AND NOT is_told").await
            == 1
    })
    .await;
    world.simulator.change(&ConfigPatch { faults: Some(Vec::new()), ..ConfigPatch::default() }).unwrap();
    for job in ids {
        world.until_state(job.id, JobState::Succeeded).await;
    }
    handle.drain().await;
}
