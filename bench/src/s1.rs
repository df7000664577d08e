//! S1: submit in bulk, bodies of 300 bytes, over one connection.
//!
//! *Sluice* is `Store::submit_many` in batches of 4,000; a batch is prepared while the one before it is stored, as a
//! caller that reads its input does. The *limit* is COPY of the same rows into the same two tables, in one transaction
//! and encoded beforehand; once more with a commit for each 4,000. *Peers* enqueue in bulk by the best way that they document.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sluice_domain::SubmitOutcome;
use sluice_store::MAX_SUBMIT_BATCH;
use tokio::sync::mpsc;

use crate::{
    progress,
    rig::{Bench, Database, JOBS_PER_S, LIMIT, SLUICE, Server, Sheet, copy, payload},
};

const VARIANT: &str = "connections=1";
/// The limit once more, with a commit for each batch: what Sluice acknowledges, it has committed.
const SAME_BATCHES: &str = "connections=1 batch=4000";

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("S1");
    let jobs = bench.choose(300_000, 100_000);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let rate = sluice(&server, jobs).await?;
        progress!("S1 run {run}: sluice: {rate:.0} jobs/s");
        sheet.note(SLUICE, VARIANT, JOBS_PER_S, rate);
        for (variant, batch) in [(VARIANT, jobs), (SAME_BATCHES, MAX_SUBMIT_BATCH)] {
            let limit = limit(&server, jobs, batch).await?;
            progress!("S1 run {run}: COPY of {batch}: {limit:.0} jobs/s");
            sheet.note(LIMIT, variant, JOBS_PER_S, limit);
            sheet.note_used(variant, rate, limit);
        }
        for peer in bench.peers() {
            let Some(database) = peer.prepare(&server, 0).await? else { continue };
            let rate = peer.rate(&database, &["enqueue-bulk", "--jobs", &jobs.to_string()]).await?;
            database.remove().await?;
            if let Some(rate) = rate {
                progress!("S1 run {run}: {}: {rate:.0} jobs/s", peer.name);
                sheet.note(&peer.name, VARIANT, JOBS_PER_S, rate);
            }
        }
    }
    bench.publish(&sheet)
}

async fn sluice(server: &Server, jobs: usize) -> Result<f64> {
    let database = server.database().await?;
    let rate = submit(&database, jobs).await?;
    check_stored(&database, jobs).await?;
    database.remove().await?;
    Ok(rate)
}

/// Submits so many jobs over one connection; says how many a second.
pub async fn submit(database: &Database, jobs: usize) -> Result<f64> {
    submit_sized(database, jobs, payload::BODY_BYTES).await
}

/// As [`submit`], with bodies of so many bytes.
pub async fn submit_sized(database: &Database, jobs: usize, body_bytes: usize) -> Result<f64> {
    let store = database.store(1).await?;
    let (sender, mut batches) = mpsc::channel(4);
    let begun = Instant::now();
    let preparing = tokio::task::spawn_blocking(move || {
        let mut left = jobs;
        while left > 0 {
            let count = left.min(MAX_SUBMIT_BATCH);
            if sender.blocking_send(payload::jobs_of(count, body_bytes)).is_err() {
                return;
            }
            left -= count;
        }
    });
    while let Some(batch) = batches.recv().await {
        let outcomes = store.submit_many(&batch).await?;
        let is_new = |outcome: &SubmitOutcome| matches!(outcome, SubmitOutcome::Created(_));
        ensure!(outcomes.iter().all(is_new), "a fresh job was refused");
    }
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    preparing.await.context("the jobs' maker panicked")?;
    store.close().await;
    Ok(rate)
}

async fn limit(server: &Server, jobs: usize, batch: usize) -> Result<f64> {
    let database = server.database().await?;
    let took = copy::copy_jobs(&database, &payload::jobs(jobs), batch).await?;
    check_stored(&database, jobs).await?;
    database.remove().await?;
    Ok(jobs as f64 / took.as_secs_f64())
}

async fn check_stored(database: &Database, jobs: usize) -> Result<()> {
    let stored =
        database.number("SELECT count(*) FROM sluice.jobs j JOIN sluice.ready r ON r.job_id = j.id").await?;
    ensure!(stored == jobs as i64, "{stored} of {jobs} jobs are stored");
    Ok(())
}
