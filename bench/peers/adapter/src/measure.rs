//! The loops that are timed, the same for every peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Peer, Tuning, board};

/// So long may nothing happen before a peer is given up.
const STALLED_AFTER: Duration = Duration::from_mins(1);
/// So often the end of a drain is looked for, once every handler has run.
const END_POLL: Duration = Duration::from_millis(5);
/// Between two jobs of a latency run, so that each finds the system idle; and some more, different each time, lest
/// the jobs fall into step with a peer's polling.
const IDLE: Duration = Duration::from_millis(20);
const IDLE_SPREAD: u64 = 11;

pub(crate) async fn fill<P: Peer>(url: &str, jobs: u64) -> Result<()> {
    P::connect(url, 1).await?.enqueue_bulk(jobs).await
}

pub(crate) async fn enqueue_bulk<P: Peer>(url: &str, jobs: u64) -> Result<Value> {
    let peer = P::connect(url, 1).await?;
    let began = Instant::now();
    peer.enqueue_bulk(jobs).await?;
    Ok(json!({"jobs": jobs, "seconds": began.elapsed().as_secs_f64()}))
}

pub(crate) async fn enqueue_single<P: Peer>(url: &str, clients: u32, jobs: u64) -> Result<Value> {
    let peer = Arc::new(P::connect(url, clients).await?);
    let left = Arc::new(AtomicU64::new(jobs));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..clients {
        tasks.spawn(submit_while_left(Arc::clone(&peer), Arc::clone(&left)));
    }
    let mut latencies = Vec::new();
    while let Some(of_client) = tasks.join_next().await {
        latencies.extend(of_client??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut figures = percentiles(latencies);
    figures["jobs"] = json!(jobs);
    figures["seconds"] = json!(seconds);
    Ok(figures)
}

async fn submit_while_left<P: Peer>(peer: Arc<P>, left: Arc<AtomicU64>) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let began = Instant::now();
        peer.enqueue_one().await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// From the moment the workers begin to run to the moment that so many jobs are stored as done.
pub(crate) async fn drain<P: Peer>(url: &str, jobs: u64, workers: u32) -> Result<Value> {
    let peer = P::connect(url, 1).await?;
    let backlog = peer.unfinished().await?;
    let target = backlog.checked_sub(jobs).with_context(|| format!("only {backlog} jobs wait"))?;
    let mut tasks = JoinSet::new();
    let prepared = peer.workers(Tuning::Throughput, workers).await?;
    let began = Instant::now();
    for worker in prepared {
        tasks.spawn(worker);
    }
    let mut progress = (0, Instant::now());
    while board::handled_count() < jobs || peer.unfinished().await? > target {
        if let Some(ended) = tasks.try_join_next() {
            bail!("a worker ended by itself: {:?}", ended?);
        }
        let handled = board::handled_count();
        if handled > progress.0 {
            progress = (handled, Instant::now());
        }
        if progress.1.elapsed() > STALLED_AFTER {
            bail!("stalled after {handled} of {jobs} jobs");
        }
        sleep(END_POLL).await;
    }
    Ok(json!({"jobs": jobs, "seconds": began.elapsed().as_secs_f64()}))
}

/// From the call that submits to the handler's first line, one job at a time.
pub(crate) async fn start_latency<P: Peer>(url: &str, jobs: u64) -> Result<Value> {
    let peer = P::connect(url, 1).await?;
    board::watch_starts();
    let mut tasks = JoinSet::new();
    for worker in peer.workers(Tuning::Latency, 1).await? {
        tasks.spawn(worker);
    }
    sleep(Duration::from_secs(1)).await;
    let mut latencies = Vec::new();
    for number in 0..jobs {
        let submitted = Instant::now();
        peer.enqueue_one().await?;
        let started = timeout(STALLED_AFTER, board::next_start()).await.context("no job started")?;
        latencies.push(started.saturating_duration_since(submitted));
        sleep(IDLE + Duration::from_millis(number * 7 % IDLE_SPREAD)).await;
    }
    Ok(percentiles(latencies))
}

fn percentiles(mut latencies: Vec<Duration>) -> Value {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    json!({"p50_ms": at(50), "p99_ms": at(99)})
}
