//! Answers that the database did not take: on the disk until it does, whoever lives to write them.

use std::{path::Path, time::Duration};

use sluice_domain::{JobState, Outcome};
use sluice_testkit::{TestCluster, job, wait_until};
use sluice_worker::{SpoolOptions, Unwritten, WorkMode, Worker, WorkerHandle, WorkerOptions, inspect_spools};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::world::{SOON, World, job_with, prompt};

/// Between a record that can be read and one that its worker knows to be on the disk.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// A worker on threads of its own, to be killed.
struct Life {
    runtime: Runtime,
    handle: WorkerHandle,
}

impl Life {
    async fn begin(options: WorkerOptions) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.spawn(Worker::start(options)).await.unwrap().unwrap();
        Self { runtime, handle }
    }

    /// As SIGKILL does: nothing of it runs on, and the system frees its locks.
    async fn kill(self, folder: &Path) {
        // A thread that is in the middle of a write runs on here, finds that nobody waits for it any more, and takes the write
        // back. What was killed takes nothing back, so what can be read is flushed first.
        tokio::time::sleep(FLUSHED_WITHIN).await;
        self.runtime.shutdown_background();
        drop(self.handle);
        wait_until("its lock to be free", SOON, async || {
            inspect_spools(folder).unwrap().0.iter().all(|spool| !spool.has_owner)
        })
        .await;
    }
}

fn with_spool(world: &World, folder: &Path) -> WorkerOptions {
    WorkerOptions { spool: Some(SpoolOptions::new(folder)), ..world.options() }
}

async fn until_spooled(folder: &Path, outcomes: usize) {
    wait_until(&format!("{outcomes} outcomes in the spool"), SOON, async || {
        inspect_spools(folder).unwrap().0.iter().map(|spool| spool.outcomes).sum::<usize>() == outcomes
    })
    .await;
}

/// Works until nothing is left to do, with the same spool.
async fn work_all(world: &World, folder: &Path) {
    let options = WorkerOptions { mode: WorkMode::UntilIdle, ..with_spool(world, folder) };
    let handle = Worker::start(options).await.unwrap();
    tokio::time::timeout(SOON, handle.join()).await.expect("the worker ends when nothing is left to do");
    assert_eq!(handle.unwritten(), Unwritten::default());
    until_spooled(folder, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_worker_that_was_killed_during_an_outage_are_settled_by_the_next() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(world.submit(job_with("none latency_ms=800").build()).await);
    }
    let life = Life::begin(with_spool(&world, folder.path())).await;
    let called_by = life.handle.incarnation_id();
    world.until_running(3).await;
    cluster.kill().await;
    until_spooled(folder.path(), 3).await;
    life.kill(folder.path()).await;
    cluster.start_again().await;

    work_all(&world, folder.path()).await;
    for id in jobs {
        assert_eq!(world.job(id).await.state, JobState::Succeeded);
        let attempt = world.attempts(id).await.remove(0);
        assert_eq!((attempt.outcome, attempt.incarnation_id), (Some(Outcome::Succeeded), called_by));
    }
    assert_eq!(world.simulator.calls().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_is_in_the_spool_while_it_hangs() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=500").build()).await;
    let life = Life::begin(with_spool(&world, folder.path())).await;
    world.until_running(1).await;
    cluster.pause();
    until_spooled(folder.path(), 1).await;
    life.kill(folder.path()).await;
    cluster.resume();
    work_all(&world, folder.path()).await;
    // Perhaps by the statement that hung: then the next worker's word is recognised as a repetition.
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Succeeded)]);
    assert_eq!(world.simulator.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_settled_when_the_database_is_back_and_the_spool_is_gone() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=500").build()).await;
    let handle = Worker::start(with_spool(&world, folder.path())).await.unwrap();
    world.until_running(1).await;
    cluster.kill().await;
    until_spooled(folder.path(), 1).await;
    assert_eq!(handle.in_flight(), 1);
    cluster.start_again().await;
    world.until_state(id, JobState::Succeeded).await;
    until_spooled(folder.path(), 0).await;
    let next = world.submit(job().build()).await;
    world.until_state(next, JobState::Succeeded).await;
    handle.drain().await;
    assert_eq!(inspect_spools(folder.path()).unwrap(), (Vec::new(), Vec::new()));
    assert_eq!(world.simulator.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_a_spool_is_settled_before_its_job_is_leased_again() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=500").build()).await;
    let life = Life::begin(with_spool(&world, folder.path())).await;
    let dead = life.handle.incarnation_id();
    world.until_running(1).await;
    cluster.kill().await;
    until_spooled(folder.path(), 1).await;
    life.kill(folder.path()).await;
    cluster.start_again().await;
    // A reaper was sooner: the job is queued again, and the next worker could lease it.
    assert_eq!(world.store.incarnation_end(dead).await.unwrap(), 1);
    assert_eq!(world.job(id).await.state, JobState::Queued);
    work_all(&world, folder.path()).await;
    let done = world.job(id).await;
    assert_eq!((done.state, done.result.unwrap().is_late), (JobState::Succeeded, true));
    assert_eq!(world.simulator.calls().len(), 1, "it was paid for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_a_spool_is_kept_beside_that_of_another_worker() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=500").build()).await;
    let life = Life::begin(with_spool(&world, folder.path())).await;
    let dead = life.handle.incarnation_id();
    world.until_running(1).await;
    cluster.kill().await;
    until_spooled(folder.path(), 1).await;
    life.kill(folder.path()).await;
    cluster.start_again().await;
    world.store.incarnation_end(dead).await.unwrap();
    // On another host, which knows nothing of this spool.
    world.work_all().await;
    work_all(&world, folder.path()).await;
    let kept: Vec<_> =
        world.attempts(id).await.iter().map(|a| (a.outcome, a.is_late, a.status_code)).collect();
    assert_eq!(kept, [(Some(Outcome::Lost), true, Some(200)), (Some(Outcome::Succeeded), false, Some(200))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_during_an_outage_says_where_its_answers_are() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let jobs = [
        world.submit(job_with("none latency_ms=500").build()).await,
        world.submit(job_with("none latency_ms=500").build()).await,
    ];
    let start = async |spool: Option<SpoolOptions>| {
        let mut options = WorkerOptions { spool, concurrency: 1, ..world.options() };
        options.timing.grace = Duration::from_millis(100);
        Worker::start(options).await.unwrap()
    };
    let safe = start(Some(SpoolOptions::new(folder.path()))).await;
    world.until_running(1).await;
    let unsafe_one = start(None).await;
    world.until_running(2).await;
    cluster.kill().await;
    world.until_running(0).await;
    tokio::join!(safe.drain(), unsafe_one.drain());
    let left = safe.unwritten();
    assert_eq!((left.in_spool, left.lost), (1, 0));
    assert!(left.folder.unwrap().starts_with(folder.path()));
    assert_eq!(unsafe_one.unwritten(), Unwritten { in_spool: 0, lost: 1, folder: None });
    cluster.start_again().await;
    drop((safe, unsafe_one));
    let next = Worker::start(with_spool(&world, folder.path())).await.unwrap();
    wait_until("the answer to be written", SOON, async || {
        let mut ended = world.store.jobs_ended_among(&jobs).await.unwrap().into_iter();
        ended.next().is_some()
    })
    .await;
    until_spooled(folder.path(), 0).await;
    next.drain().await;
}

#[tokio::test]
async fn a_spool_that_is_full_lets_no_call_begin() {
    let (world, folder) = (World::new().await, TempDir::new().unwrap());
    world.refuse_ends("true").await;
    let first = world.submit(job().build()).await;
    let spool = SpoolOptions { max_outcomes: 1, ..SpoolOptions::new(folder.path()) };
    let handle = Worker::start(WorkerOptions { spool: Some(spool), ..world.options() }).await.unwrap();
    until_spooled(folder.path(), 1).await;
    let second = world.submit(job().build()).await;
    world.store.wake_sleepers().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.simulator.calls().len(), 1, "no call while there is no room for its answer");
    assert_eq!(world.job(first).await.state, JobState::Running, "the answer waits");
    world.take_ends().await;
    world.until_state(first, JobState::Succeeded).await;
    world.until_state(second, JobState::Succeeded).await;
    until_spooled(folder.path(), 0).await;
    handle.drain().await;
}

#[tokio::test]
async fn an_outcome_that_the_database_refuses_holds_up_no_other() {
    let (world, folder) = (World::new().await, TempDir::new().unwrap());
    let refused = world.submit(job_with("none latency_ms=300").priority(5).build()).await;
    let others: Vec<_> = (0..20).map(|_| job_with("none latency_ms=300").build()).collect();
    world.store.submit_many(&others).await.unwrap();
    world.refuse_ends(&format!("NEW.job_id = '{refused}'")).await;
    let handle = Worker::start(with_spool(&world, folder.path())).await.unwrap();
    for job in &others {
        world.until_state(job.id, JobState::Succeeded).await;
    }
    until_spooled(folder.path(), 1).await;
    assert_eq!(world.job(refused).await.state, JobState::Running);
    world.take_ends().await;
    world.until_state(refused, JobState::Succeeded).await;
    assert_eq!(world.simulator.calls().len(), 21);
    handle.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_wait_in_memory_where_the_disk_can_not_be_written() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let no_folder = folder.path().join("a-file");
    std::fs::write(&no_folder, "").unwrap();
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=500").build()).await;
    let handle = Worker::start(with_spool(&world, &no_folder)).await.unwrap();
    world.until_running(1).await;
    cluster.kill().await;
    world.until_running(0).await;
    cluster.start_again().await;
    world.until_state(id, JobState::Succeeded).await;
    assert_eq!(world.simulator.calls().len(), 1);
    handle.drain().await;
    assert_eq!(handle.unwritten(), Unwritten::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_waits_for_what_another_has_taken_over() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=500").build()).await;
    let life = Life::begin(with_spool(&world, folder.path())).await;
    let dead = life.handle.incarnation_id();
    world.until_running(1).await;
    cluster.kill().await;
    until_spooled(folder.path(), 1).await;
    life.kill(folder.path()).await;
    cluster.start_again().await;
    // Its job waits again, and may be leased by anybody.
    world.store.incarnation_end(dead).await.unwrap();

    // The late word has to wait a while.
    let pool = sqlx::PgPool::connect(cluster.url()).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE sluice.late_results IN SHARE MODE").execute(&mut *holder).await.unwrap();
    let first = Worker::start(with_spool(&world, folder.path())).await.unwrap();
    wait_until("the spool to be taken over", SOON, async || {
        inspect_spools(folder.path()).unwrap().0.iter().any(|spool| spool.has_owner)
    })
    .await;
    let second = Worker::start(with_spool(&world, folder.path())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.simulator.calls().len(), 1, "the second worker knows that the answer is there");
    holder.rollback().await.unwrap();
    world.until_state(id, JobState::Succeeded).await;
    assert_eq!(world.simulator.calls().len(), 1, "it was paid for once");
    tokio::join!(first.drain(), second.drain());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_memory_should_hold_is_in_the_spool_alone_and_settled_from_there() {
    const EACH: usize = 8_000_000;
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let world = World::at(cluster.url()).await;
    // Above 64 MB of answers, what is safe on the disk makes room in memory.
    let order = format!("hello [[sim:body_10mb bytes={EACH} latency_ms=1500]]");
    let jobs: Vec<_> = (0..12).map(|_| job().body(&prompt(&order)).build()).collect();
    world.store.submit_many(&jobs).await.unwrap();
    let options = WorkerOptions { concurrency: jobs.len(), ..with_spool(&world, folder.path()) };
    let handle = Worker::start(options).await.unwrap();
    world.until_running(jobs.len() as u64).await;
    cluster.kill().await;
    until_spooled(folder.path(), jobs.len()).await;
    cluster.start_again().await;
    for job in &jobs {
        let done = world.until_state(job.id, JobState::Succeeded).await;
        assert!(done.result.unwrap().body.len() >= EACH, "to the last byte");
    }
    until_spooled(folder.path(), 0).await;
    assert_eq!(world.simulator.calls().len(), jobs.len());
    handle.drain().await;
    assert_eq!(handle.unwritten(), Unwritten::default());
}
