//! Many jobs at once, through worker and simulator: the benchmark of the whole path in small, without a clock.

use std::collections::BTreeSet;

use sluice_domain::{JobState, Outcome};
use sluice_simulator::{ConfigPatch, Distribution, Latency};
use sluice_testkit::job;
use sluice_worker::{WorkMode, Worker, WorkerOptions};

use crate::world::{SOON, World, prompt};

const JOBS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_all_succeed_and_stand_on_both_ledgers() {
    let world = World::new().await;
    let first_token = Distribution::fixed(20.0);
    let slower = ConfigPatch {
        latency: Some(Latency { first_token, ..Latency::default() }),
        ..ConfigPatch::default()
    };
    world.simulator.change(&slower).unwrap();
    let mut ids = Vec::with_capacity(JOBS);
    for number in 0..JOBS {
        ids.push(world.submit(job().body(&prompt(&format!("question {number}"))).build()).await);
    }
    let options = WorkerOptions { concurrency: 50, mode: WorkMode::UntilIdle, ..world.options() };
    let worker = Worker::start(options).await.unwrap();
    tokio::time::timeout(SOON, worker.join()).await.expect("the worker ends when nothing is left to do");

    let mut on_our_ledger = BTreeSet::new();
    for id in ids {
        let done = world.job(id).await;
        assert_eq!((done.state, done.tries), (JobState::Succeeded, 1));
        let attempt = world.attempts(id).await.remove(0);
        assert_eq!(attempt.outcome, Some(Outcome::Succeeded));
        on_our_ledger.insert(attempt.call_id.unwrap().to_string());
    }
    let received: BTreeSet<String> =
        world.simulator.calls().into_iter().filter_map(|call| call.arrival.call_id).collect();
    assert_eq!((received.len(), world.simulator.stats().calls), (JOBS, JOBS as u64));
    assert_eq!(received, on_our_ledger);
}
