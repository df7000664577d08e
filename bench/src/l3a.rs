//! L3a: an old snapshot is held for half an hour while a thousand jobs a second come and go. No dead row can be removed
//! meanwhile; leases must not get slower for it.
//!
//! One task submits batches at an even pace, one worker's database side ([`worker_side`](crate::rig::worker_side)) leases and settles what comes.
//! First without the snapshot, for the latency before; then with it. *Before* and *held* are compared over windows of
//! the same length, the last one under the snapshot counting. It is measured once, whatever the number of runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    progress,
    rig::{
        Bench, Database, HeldSnapshot, JOBS_PER_S, Latencies, Metric, SLUICE, Server, Sheet, payload,
        worker_side::{Running, Workers, check_done_once},
    },
};

const RATE: u64 = 1_000;
/// A batch each so many milliseconds.
const TICK: Duration = Duration::from_millis(20);

const LEASE_P99_MS: Metric = Metric::new("lease_p99_ms", "ms");
const RATIO: Metric = Metric::new("lease_p99_ratio", "1");

/// Measures it.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("L3a");
    let (window, windows) = bench.choose((Duration::from_mins(1), 30), (Duration::from_secs(10), 5));
    let server = Server::start().await?;
    let database = server.database().await?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let submitting = tokio::spawn(submit_evenly(database.clone(), stopped));
    let workers = Workers::connect(&database, 1).await?.start();
    // What is new is slow: the first window counts for nobody.
    watch(&workers, Duration::from_secs(5)).await;
    let before = watch(&workers, window).await;
    note(&mut sheet, "before", &before);
    let snapshot = HeldSnapshot::take(&database).await?;
    let mut held = Window::default();
    for number in 1..=windows {
        held = watch(&workers, window).await;
        progress!(
            "L3a: window {number} of {windows}: {:.0} jobs/s, lease p99 {:.2} ms",
            held.rate,
            held.leases.percentile_ms(99.0)
        );
    }
    note(&mut sheet, "held", &held);
    let ratio = held.leases.percentile_ms(99.0) / before.leases.percentile_ms(99.0);
    sheet.note(SLUICE, "held", RATIO, ratio);
    let _ = stop.send(());
    let submitted = submitting.await.context("the submitter panicked")??;
    finish(workers, submitted).await?;
    snapshot.release().await?;
    check_done_once(&database, submitted).await?;
    bench.publish(&sheet)
}

/// What happened in some time.
#[derive(Default)]
struct Window {
    rate: f64,
    leases: Latencies,
}

async fn watch(workers: &Running, window: Duration) -> Window {
    let (settled, begun) = (workers.settled(), Instant::now());
    workers.take_lease_latencies();
    sleep(window).await;
    let rate = (workers.settled() - settled) as f64 / begun.elapsed().as_secs_f64();
    Window { rate, leases: workers.take_lease_latencies() }
}

fn note(sheet: &mut Sheet, variant: &str, window: &Window) {
    sheet.note(SLUICE, variant, JOBS_PER_S, window.rate);
    sheet.note(SLUICE, variant, LEASE_P99_MS, window.leases.percentile_ms(99.0));
}

/// Submits until it is told to stop; says how many.
async fn submit_evenly(database: Database, mut stopped: tokio::sync::oneshot::Receiver<()>) -> Result<u64> {
    let store = database.store(1).await?;
    let batch = RATE * TICK.as_millis() as u64 / 1_000;
    let mut ticks = interval(TICK);
    // Late is late: the pace is kept over all.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut submitted = 0;
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(submitted),
            _ = ticks.tick() => {
                store.submit_many(&payload::jobs(batch as usize)).await?;
                submitted += batch;
            }
        }
    }
}

async fn finish(workers: Running, submitted: u64) -> Result<()> {
    let begun = Instant::now();
    while workers.settled() < submitted {
        let settled = workers.settled();
        ensure!(begun.elapsed() < Duration::from_secs(30), "of {submitted} jobs {settled} were settled");
        sleep(Duration::from_millis(10)).await;
    }
    workers.stop().await?;
    Ok(())
}
