use crate::world::{World, prompt};
use sluice_testkit::{job, wait_until};
use sluice_worker::*;
use std::time::Duration;
fn rss() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmRSS")).unwrap().to_owned()
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch_memory() {
    let world = World::new().await;
    eprintln!("before {}", rss());
    let text = "x".repeat(4000);
    for _ in 0..4 {
        let jobs: Vec<_> =
            (0..1000).map(|n| job().body(&prompt(&format!("{n} {text} [[sim:none latency_ms=12000]]"))).build()).collect();
        world.store.submit_many(&jobs).await.unwrap();
    }
    let begun = std::time::Instant::now();
    let options = WorkerOptions { concurrency: 2000, timing: Timing::default(), ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    wait_until("2000", Duration::from_secs(60), async || world.simulator.stats().running >= 2000).await;
    eprintln!("2000 in flight after {:?}: {} in_flight {}", begun.elapsed(), rss(), handle.in_flight());
    wait_until("2000 done", Duration::from_secs(60), async || world.simulator.stats().answered >= 3000).await;
    eprintln!("later {:?}: {}", begun.elapsed(), rss());
    wait_until("4000 done", Duration::from_secs(60), async || world.simulator.stats().answered >= 4000 && handle.in_flight() == 0).await;
    eprintln!("end {:?}: {}", begun.elapsed(), rss());
    handle.drain().await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch_rate() {
    let world = World::new().await;
    for _ in 0..5 {
        let jobs: Vec<_> = (0..1000).map(|n| job().body(&prompt(&format!("{n}"))).build()).collect();
        world.store.submit_many(&jobs).await.unwrap();
    }
    let begun = std::time::Instant::now();
    let options = WorkerOptions { mode: WorkMode::UntilIdle, concurrency: 200, ..world.options() };
    let metrics = options.metrics.clone();
    Worker::start(options).await.unwrap().join().await;
    for line in metrics.render_prometheus().lines().filter(|l| (l.contains("lease") || l.contains("settle") || l.contains("operation_duration")) && (l.contains("_sum") || l.contains("_count"))) { eprintln!("{line}"); }
    eprintln!("5000 jobs in {:?}", begun.elapsed());
}
#[tokio::test]
async fn scratch_idle() {
    let db = sluice_testkit::TestDatabase::new().await;
    let world = World::at(&db.url()).await;
    let options = WorkerOptions { timing: Timing::default(), ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    eprintln!("URL {}", db.url());
    tokio::time::sleep(Duration::from_secs(40)).await;
    handle.drain().await;
}
