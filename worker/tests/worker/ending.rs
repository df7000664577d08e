//! How workers end.

use std::time::Duration;

use sluice_domain::{JobState, Outcome};
use sluice_testkit::{job, wait_until};
use sluice_worker::{Worker, WorkerOptions};

use crate::world::{SOON, World, job_with, prompt};

#[tokio::test]
async fn a_drain_finishes_calls_under_way_and_gives_back_the_rest() {
    let world = World::new().await;
    // Quick ones first, so that a few are fetched ahead; then long ones, so that those wait.
    let quick = (0..40).map(|n| job().body(&prompt(&format!("{n} [[sim:none latency_ms=10]]"))).build());
    let slow = (0..20).map(|n| job().body(&prompt(&format!("{n} [[sim:none latency_ms=1500]]"))).build());
    let jobs: Vec<_> = quick.chain(slow).collect();
    world.store.submit_many(&jobs).await.unwrap();
    let handle = world.start().await;
    wait_until("long calls in all slots and more leased", SOON, async || {
        let leased =
            world.store.queue_depths(None).await.unwrap().iter().map(|queue| queue.running).sum::<u64>();
        let stats = world.simulator.stats();
        stats.calls == 50 && stats.running == 10 && leased > 10
    })
    .await;
    handle.drain().await;
    let mut called = 0;
    for job in &jobs {
        let view = world.job(job.id).await;
        let is_done = view.state == JobState::Succeeded;
        assert!(is_done || (view.state == JobState::Queued && view.tries == 0), "{view:?}");
        called += u64::from(is_done);
        let outcomes = world.outcomes(job.id).await;
        let is_clean =
            |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Succeeded | Outcome::NotSent));
        assert!(outcomes.iter().all(is_clean), "{outcomes:?}");
    }
    let stats = world.simulator.stats();
    assert_eq!((stats.calls, stats.answered), (called, called));
    assert_eq!(world.store.workers().await.unwrap(), []);
    // The next worker makes what is left, and nothing twice.
    world.work_all().await;
    assert_eq!(world.simulator.stats().calls, 60);
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_let_go_and_marked() {
    let world = World::new().await;
    let id = world.submit(job_with("hang times=1").build()).await;
    let mut options = world.options();
    options.timing.grace = Duration::from_millis(100);
    let handle = Worker::start(options).await.unwrap();
    world.until_running(1).await;
    handle.drain().await;
    let waiting = world.job(id).await;
    assert_eq!((waiting.state, waiting.tries, waiting.crashes), (JobState::Queued, 1, 0));
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Unknown)]);
    world.work_all().await;
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
}

#[tokio::test]
async fn stopping_now_lets_go_of_all_calls() {
    let world = World::new().await;
    let id = world.submit(job_with("hang").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    handle.stop_now().await;
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Unknown)]);
    assert_eq!(world.store.workers().await.unwrap(), []);
}

#[tokio::test]
async fn a_worker_that_starts_nothing_more_finishes_what_runs() {
    let world = World::new().await;
    let first = world.submit(job_with("none latency_ms=500").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    handle.stop_starting();
    let second = world.submit(job().build()).await;
    world.store.wake_sleepers().await.unwrap();
    world.until_state(first, JobState::Succeeded).await;
    handle.drain().await;
    assert_eq!(world.job(second).await.state, JobState::Queued);
    // A lease statement that was under way when it was told may bring the job, which is then given back unsent.
    let attempts = world.attempts(second).await;
    assert!(attempts.iter().all(|attempt| attempt.outcome == Some(Outcome::NotSent)), "{attempts:?}");
}

#[tokio::test]
async fn the_lock_file_is_held_while_the_worker_lives() {
    let world = World::new().await;
    let folder = std::env::temp_dir().join(format!("sluice-locks-{}", std::process::id()));
    let options = WorkerOptions { lock_dir: Some(folder.clone()), ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    let path = world.store.workers().await.unwrap().remove(0).lock_path.unwrap();
    assert!(std::fs::File::open(&path).unwrap().try_lock().is_err(), "the lock is held");
    handle.drain().await;
    drop(handle);
    wait_until("the file to be gone", SOON, async || !std::path::Path::new(&path).exists()).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn leases_that_somebody_holds_keep_no_others_from_going_back() {
    let world = World::new().await;
    let quick = (0..40).map(|n| job().body(&prompt(&format!("{n} [[sim:none latency_ms=10]]"))).build());
    let slow = (0..20).map(|n| job().body(&prompt(&format!("{n} [[sim:none latency_ms=2500]]"))).build());
    let jobs: Vec<_> = quick.chain(slow).collect();
    world.store.submit_many(&jobs).await.unwrap();
    let handle = world.start().await;
    wait_until("long calls in all slots and more leased", SOON, async || {
        let leased =
            world.store.queue_depths(None).await.unwrap().iter().map(|queue| queue.running).sum::<u64>();
        let stats = world.simulator.stats();
        stats.calls == 50 && stats.running == 10 && leased > 12
    })
    .await;
    // A client that cancels all that runs, and does not commit.
    let mut cancelling = world.pool().begin().await.unwrap();
    let waiting: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT job_id FROM sluice.running ORDER BY job_id DESC LIMIT 1")
            .fetch_all(&mut *cancelling)
            .await
            .unwrap();
    sqlx::query("SELECT sluice.cancel($1)").bind(waiting[0]).execute(&mut *cancelling).await.unwrap();
    let draining = tokio::spawn(async move { handle.drain().await });
    wait_until("all others to be done or given back", SOON, async || {
        let running: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sluice.running").fetch_one(world.pool()).await.unwrap();
        running == 1
    })
    .await;
    cancelling.rollback().await.unwrap();
    draining.await.unwrap();
    for job in &jobs {
        let view = world.job(job.id).await;
        let is_done = view.state == JobState::Succeeded;
        assert!(is_done || (view.state == JobState::Queued && view.crashes == 0), "{view:?}");
    }
}
