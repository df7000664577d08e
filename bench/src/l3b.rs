//! L3b: a backlog of 300,000 is drained at full speed, freely and with an old snapshot held, under which no dead row can
//! be removed.
//!
//! *Sluice* is two workers' database side; the *limit* is `pgbench` with the same two statements; *peers* drain as many
//! jobs with two workers in one process. Each is compared with itself: the ratio is held to free.

use anyhow::Result;

use crate::{
    l1, progress,
    rig::{
        Bench, Database, HeldSnapshot, JOBS_PER_S, LIMIT, Metric, Peer, SLUICE, Server, Sheet, fixture,
        worker_side::{self, LEASE_BATCH},
    },
};

const WORKERS: usize = 2;

const RATIO: Metric = Metric::new("held_ratio", "1");

/// Whether somebody holds an old snapshot meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Snapshot {
    Free,
    Held,
}

impl Snapshot {
    const fn variant(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held => "held",
        }
    }

    async fn take(self, database: &Database) -> Result<Option<HeldSnapshot>> {
        match self {
            Self::Free => Ok(None),
            Self::Held => HeldSnapshot::take(database).await.map(Some),
        }
    }
}

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("L3b");
    let backlog = bench.choose(300_000, 100_000);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let mut rates = Vec::new();
        for snapshot in [Snapshot::Free, Snapshot::Held] {
            rates.push((SLUICE.to_owned(), snapshot, Some(sluice(&server, backlog, snapshot).await?)));
            rates.push((LIMIT.to_owned(), snapshot, Some(limit(&server, backlog, snapshot).await?)));
            for peer in bench.peers() {
                let rate = drain(&server, &peer, backlog, snapshot).await?;
                rates.push((peer.name, snapshot, rate));
            }
        }
        note(&mut sheet, run, &rates);
    }
    bench.publish(&sheet)
}

fn note(sheet: &mut Sheet, run: usize, rates: &[(String, Snapshot, Option<f64>)]) {
    for (who, snapshot, rate) in rates {
        let Some(rate) = rate else { continue };
        progress!("L3b run {run}: {who}, {}: {rate:.0} jobs/s", snapshot.variant());
        sheet.note(who, snapshot.variant(), JOBS_PER_S, *rate);
        let free = rates.iter().find(|(other, which, _)| other == who && *which == Snapshot::Free);
        if let (Snapshot::Held, Some((_, _, Some(free)))) = (snapshot, free) {
            sheet.note(who, snapshot.variant(), RATIO, rate / free);
        }
    }
}

async fn sluice(server: &Server, backlog: u64, snapshot: Snapshot) -> Result<f64> {
    let database = server.database().await?;
    fixture::fill(&database, backlog).await?;
    let held = snapshot.take(&database).await?;
    let worked = l1::drain_once(&database, backlog, WORKERS).await?;
    release(held).await?;
    database.remove().await?;
    Ok(worked.rate())
}

async fn limit(server: &Server, backlog: u64, snapshot: Snapshot) -> Result<f64> {
    let database = server.database().await?;
    fixture::fill(&database, backlog).await?;
    let held = snapshot.take(&database).await?;
    let rate = worker_side::same_sql(&database, backlog, WORKERS, LEASE_BATCH).await?;
    release(held).await?;
    database.remove().await?;
    Ok(rate)
}

async fn drain(server: &Server, peer: &Peer, backlog: u64, snapshot: Snapshot) -> Result<Option<f64>> {
    let Some(database) = peer.prepare(server, backlog).await? else { return Ok(None) };
    let held = snapshot.take(&database).await?;
    let (jobs, workers) = (backlog.to_string(), WORKERS.to_string());
    let rate = peer.rate(&database, &["drain", "--jobs", &jobs, "--workers", &workers]).await?;
    release(held).await?;
    database.remove().await?;
    Ok(rate)
}

async fn release(held: Option<HeldSnapshot>) -> Result<()> {
    match held {
        Some(held) => held.release().await,
        None => Ok(()),
    }
}
