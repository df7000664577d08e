//! A wrong key and an empty account stop all calls there.

use std::time::Duration;

use sluice_domain::JobState;
use sluice_simulator::{ConfigPatch, FaultKind, FaultRule};
use sluice_store::{Doorbell, PausedKind};
use sluice_testkit::{job, wait_until};
use sluice_worker::{Blocked, BlockedBy, WorkMode, Worker, WorkerOptions};

use crate::world::{SOON, World, prompt};

async fn paused_after(world: &World, fault: FaultKind) -> (Vec<sluice_domain::JobId>, Vec<Blocked>) {
    let all = FaultRule::new(fault, 1.0);
    world.simulator.change(&ConfigPatch { faults: Some(vec![all]), ..ConfigPatch::default() }).unwrap();
    let jobs = job().times(20);
    world.store.submit_many(&jobs).await.unwrap();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, concurrency: 2, ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    tokio::time::timeout(SOON, handle.join()).await.expect("what is blocked is nothing left to do");
    (jobs.iter().map(|job| job.id).collect(), handle.blocked())
}

#[tokio::test]
async fn a_wrong_key_pauses_its_upstream_and_the_jobs_wait() {
    let world = World::new().await;
    let (jobs, blocked) = paused_after(&world, FaultKind::Http401).await;
    let calls = world.simulator.calls().len();
    assert!((1..=2).contains(&calls), "{calls} calls with a wrong key");
    let by = BlockedBy::UpstreamPaused("sim".to_owned());
    assert_eq!(blocked, [Blocked { model: "deepseek-flash".to_owned(), by }]);
    let pause = world.store.pauses().await.unwrap().remove(0);
    assert_eq!(
        (pause.kind, pause.name.as_str(), pause.reason.as_str()),
        (PausedKind::Upstream, "sim", "unauthorized")
    );
    for id in &jobs {
        let waiting = world.job(*id).await;
        assert_eq!((waiting.state, waiting.tries), (JobState::Queued, 0));
    }
    // A worker that starts now calls nothing either.
    world.work_all().await;
    assert_eq!(world.simulator.calls().len(), calls);
}

#[tokio::test]
async fn what_was_fetched_ahead_is_not_called_after_a_wrong_key() {
    let world = World::new().await;
    // Quick answers first, so that leases are fetched ahead of the slots.
    let good = (0..100).map(|n| job().body(&prompt(&format!("{n} [[sim:none latency_ms=10]]"))).build());
    let bad = (0..50).map(|n| job().body(&prompt(&format!("{n} [[sim:http_401 latency_ms=200]]"))).build());
    world.store.submit_many(&good.chain(bad).collect::<Vec<_>>()).await.unwrap();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, concurrency: 8, ..world.options() };
    Worker::start(options).await.unwrap().join().await;
    let refused = world.simulator.stats().faults.get(&FaultKind::Http401).copied().unwrap_or_default();
    assert!((1..=8).contains(&refused), "{refused} calls with a wrong key");
}

#[tokio::test]
async fn an_empty_account_is_paused_until_somebody_resumes_it() {
    let world = World::new().await;
    let (jobs, _) = paused_after(&world, FaultKind::InsufficientQuota).await;
    let calls = world.simulator.calls().len();
    let pause = world.store.pauses().await.unwrap().remove(0);
    assert_eq!(
        (pause.kind, pause.name.as_str(), pause.reason.as_str()),
        (PausedKind::Account, "main", "quota_exhausted")
    );
    world.simulator.change(&ConfigPatch { faults: Some(Vec::new()), ..ConfigPatch::default() }).unwrap();
    let handle = world.start().await;
    assert_eq!(world.simulator.calls().len(), calls);
    world.store.resume(PausedKind::Account, "main").await.unwrap();
    wait_until("all to succeed", SOON, async || {
        world.store.jobs_ended_among(&jobs).await.unwrap().len() == jobs.len()
    })
    .await;
    assert_eq!(world.simulator.calls().len(), calls + jobs.len());
    handle.drain().await;
}

#[tokio::test]
async fn a_pause_that_comes_while_a_lease_is_under_way_counts_at_the_next_bell() {
    let world = World::new().await;
    let mut options = world.options();
    // Only bells wake it.
    options.timing.poll_interval = Duration::from_mins(10);
    options.timing.lease_ttl = Duration::from_mins(10);
    let handle = Worker::start(options).await.unwrap();
    let first = world.submit(job().build()).await;
    world.store.ring(Doorbell::Ready).await.unwrap();
    world.until_state(first, JobState::Succeeded).await;
    wait_until("the worker to sleep", SOON, async || {
        world.count("SELECT count(*) FROM sluice.incarnations WHERE is_asleep").await == 1
    })
    .await;

    // A lease at a bell, which hangs while the pause comes.
    let mut holder = world.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE sluice.running IN SHARE MODE").execute(&mut *holder).await.unwrap();
    let second = world.submit(job().build()).await;
    world.store.ring(Doorbell::Ready).await.unwrap();
    wait_until("the lease to hang", SOON, async || {
        world
            .count(
                "SELECT count(*) FROM pg_locks WHERE relation = 'sluice.running'::regclass AND NOT granted",
            )
            .await
            == 1
    })
    .await;
    world.store.pause(PausedKind::Upstream, "sim", "a test").await.unwrap();
    let beats = "SELECT (extract(epoch FROM max(beat_at)) * 1000)::bigint FROM sluice.incarnations";
    for _ in 0..2 {
        let before = world.count(beats).await;
        wait_until("a beat to tell of the pause", SOON, async || world.count(beats).await > before).await;
    }
    holder.rollback().await.unwrap();
    wait_until("the lease to be given back", SOON, async || {
        world.count("SELECT count(*) FROM sluice.ledger_ended WHERE outcome = 'not_sent'").await > 0
    })
    .await;

    for _ in 0..5 {
        world.store.ring(Doorbell::Ready).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.attempts(second).await.len(), 1, "nothing is leased again from where it is paused");
    assert_eq!(world.simulator.calls().len(), 1);
    world.store.resume(PausedKind::Upstream, "sim").await.unwrap();
    world.until_state(second, JobState::Succeeded).await;
    handle.drain().await;
}

#[tokio::test]
async fn a_model_that_is_forbidden_five_times_in_a_row_is_paused_and_its_upstream_is_not() {
    let world = World::new().await;
    let all = FaultRule::new(FaultKind::Http403, 1.0);
    world.simulator.change(&ConfigPatch { faults: Some(vec![all]), ..ConfigPatch::default() }).unwrap();
    let jobs = job().times(20);
    world.store.submit_many(&jobs).await.unwrap();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, concurrency: 1, ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    tokio::time::timeout(SOON, handle.join()).await.expect("what is blocked is nothing left to do");
    let by = BlockedBy::ModelPaused { upstream: "sim".to_owned(), model: "deepseek-flash".to_owned() };
    assert_eq!(handle.blocked(), [Blocked { model: "deepseek-flash".to_owned(), by }]);
    assert_eq!(world.simulator.calls().len(), 5);
    let mut states = Vec::new();
    for job in &jobs {
        states.push(world.job(job.id).await.state);
    }
    let failed = states.iter().filter(|state| **state == JobState::Failed).count();
    let queued = states.iter().filter(|state| **state == JobState::Queued).count();
    assert_eq!((failed, queued), (5, 15), "each 403 fails its job, the others wait");
    let pause = world.store.pauses().await.unwrap().remove(0);
    assert_eq!(
        (pause.kind, pause.name.as_str(), pause.reason.as_str()),
        (PausedKind::Model, "sim deepseek-flash", "forbidden")
    );
    world.simulator.change(&ConfigPatch { faults: Some(Vec::new()), ..ConfigPatch::default() }).unwrap();
    assert!(
        world.store.resume(PausedKind::Upstream, "sim").await.unwrap(),
        "it is resumed with its upstream"
    );
    world.work_all().await;
    assert_eq!(world.simulator.calls().len(), 20);
}
