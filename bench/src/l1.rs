//! L1: lease and settle of jobs that do nothing, with results of 600 bytes, ledger and fencing.
//!
//! *Sluice* is one, two or four workers' database side ([`worker_side`]) on a backlog of 200,000. The *limit* is
//! `pgbench` with the same two statements and batches of the same size, with one, two and four clients; the ratio is to
//! the best of these. *Peers* drain a backlog of as many jobs with as many workers in one process.

use anyhow::Result;

use crate::{
    progress,
    rig::{
        Bench, Database, JOBS_PER_S, LIMIT, Peer, SLUICE, Server, Sheet, fixture,
        worker_side::{self, LEASE_BATCH, Worked, Workers},
    },
};

/// How many workers, and how many clients of `pgbench`.
const WORKERS: [usize; 3] = [1, 2, 4];
/// The other batch size at which the limit is measured, beside the product's own.
const OTHER_BATCH: u32 = 100;

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("L1");
    let backlog = bench.choose(200_000, 100_000);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let mut rates = Vec::new();
        for workers in WORKERS {
            let worked = sluice(&server, backlog, workers).await?;
            progress!(
                "L1 run {run}: sluice, {workers} workers: {:.0} jobs/s; a lease {:.1} ms, a settle {:.1} ms",
                worked.rate(),
                worked.leases.percentile_ms(50.0),
                worked.settles.percentile_ms(50.0)
            );
            sheet.note(SLUICE, &variant(workers), JOBS_PER_S, worked.rate());
            rates.push((workers, worked.rate()));
        }
        let mut best = 0.0_f64;
        for clients in WORKERS {
            let rate = limit(&server, backlog, clients, LEASE_BATCH).await?;
            progress!("L1 run {run}: pgbench, {clients} clients: {rate:.0} jobs/s");
            sheet.note(LIMIT, &variant(clients), JOBS_PER_S, rate);
            best = best.max(rate);
            let rate = limit(&server, backlog, clients, OTHER_BATCH).await?;
            sheet.note(LIMIT, &format!("workers={clients} batch={OTHER_BATCH}"), JOBS_PER_S, rate);
        }
        for (workers, rate) in rates {
            sheet.note_used(&variant(workers), rate, best);
        }
        for peer in bench.peers() {
            for workers in WORKERS {
                if let Some(rate) = drain(&server, &peer, backlog, workers).await? {
                    progress!("L1 run {run}: {}, {workers} workers: {rate:.0} jobs/s", peer.name);
                    sheet.note(&peer.name, &variant(workers), JOBS_PER_S, rate);
                }
            }
        }
    }
    bench.publish(&sheet)
}

fn variant(workers: usize) -> String {
    format!("workers={workers}")
}

async fn sluice(server: &Server, backlog: u64, workers: usize) -> Result<Worked> {
    let database = server.database().await?;
    fixture::fill(&database, backlog).await?;
    let worked = drain_once(&database, backlog, workers).await?;
    database.remove().await?;
    Ok(worked)
}

/// Leases and settles a backlog, and checks that each of its jobs was done exactly once.
pub async fn drain_once(database: &Database, backlog: u64, workers: usize) -> Result<Worked> {
    let workers = Workers::connect(database, workers).await?;
    let worked = workers.work(backlog).await?;
    worker_side::check_done_once(database, backlog).await?;
    Ok(worked)
}

async fn limit(server: &Server, backlog: u64, clients: usize, batch: u32) -> Result<f64> {
    let database = server.database().await?;
    fixture::fill(&database, backlog).await?;
    let rate = worker_side::same_sql(&database, backlog, clients, batch).await?;
    database.remove().await?;
    Ok(rate)
}

async fn drain(server: &Server, peer: &Peer, backlog: u64, workers: usize) -> Result<Option<f64>> {
    let Some(database) = peer.prepare(server, backlog).await? else { return Ok(None) };
    let (jobs, workers) = (backlog.to_string(), workers.to_string());
    let rate = peer.rate(&database, &["drain", "--jobs", &jobs, "--workers", &workers]).await?;
    database.remove().await?;
    Ok(rate)
}
