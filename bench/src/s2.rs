//! S2: submit one job at a time over REST, 16 clients with kept connections, bodies of 300 bytes.
//!
//! *Sluice* is a `sluice scheduler` process; the client ([`http`]) runs on a thread of its own and costs little. A submit
//! counts from the request's first byte to the answer's last. The *limit* is `pgbench` with 16 clients, each of which
//! runs the statement that stores one job: no HTTP, and every submit its own commit. *Peers* enqueue one job at a time
//! from 16 tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::{
    progress,
    rig::{
        Bench, JOBS_PER_S, LIMIT, Latencies, P50_MS, P99_MS, Peer, SLUICE, Server, Sheet, http, payload,
        pgbench, processes::Sluice,
    },
};

const CLIENTS: usize = 16;
const VARIANT: &str = "clients=16";
/// Submits before the clock starts: connections, plans and caches are warm then.
const WARM_UP: i64 = 2_000;

/// What a load of single submits came to.
#[derive(Clone, Debug, Default)]
pub struct Submitted {
    /// Jobs a second.
    pub rate: f64,
    /// From the first byte of the request to the last of the answer.
    pub latencies: Latencies,
}

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("S2");
    let jobs = bench.choose(100_000, 40_000);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let submitted = sluice(&server, jobs).await?;
        progress!("S2 run {run}: sluice: {:.0} jobs/s", submitted.rate);
        sheet.note(SLUICE, VARIANT, JOBS_PER_S, submitted.rate);
        sheet.note(SLUICE, VARIANT, P50_MS, submitted.latencies.percentile_ms(50.0));
        sheet.note(SLUICE, VARIANT, P99_MS, submitted.latencies.percentile_ms(99.0));
        let limit = limit(&server, jobs).await?;
        progress!("S2 run {run}: pgbench: {limit:.0} jobs/s");
        sheet.note(LIMIT, VARIANT, JOBS_PER_S, limit);
        sheet.note_used(VARIANT, submitted.rate, limit);
        for peer in bench.peers() {
            enqueue(&server, &peer, jobs, &mut sheet).await?;
        }
    }
    bench.publish(&sheet)
}

async fn sluice(server: &Server, jobs: i64) -> Result<Submitted> {
    let database = server.database().await?;
    let folder = tempfile::tempdir()?;
    let arguments =
        ["scheduler", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--output", "json"];
    let mut scheduler =
        Sluice::start("scheduler", folder.path(), &arguments, &[("DATABASE_URL", database.url())])?;
    let told = scheduler.first_line().await?;
    let url = told["url"].as_str().context("the scheduler tells its URL")?.to_owned();
    let submitted = tokio::task::spawn_blocking(move || {
        // One thread: the client must leave the processors to those who are measured.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            submit(&url, WARM_UP).await?;
            submit(&url, jobs).await
        })
    });
    let submitted = submitted.await.context("the clients panicked")??;
    scheduler.stop().await?;
    let stored = database.number("SELECT count(*) FROM sluice.ready").await?;
    ensure!(stored == WARM_UP + jobs, "{stored} jobs are stored of {}", WARM_UP + jobs);
    database.remove().await?;
    Ok(submitted)
}

/// Submits so many jobs one at a time from all clients.
pub async fn submit(url: &str, jobs: i64) -> Result<Submitted> {
    let host = http::host_of(url)?.to_owned();
    let body = format!("{{\"body\":{}}}", String::from_utf8(payload::body())?);
    let request: Arc<[u8]> = http::post(&host, "/v1/jobs", body.as_bytes()).into();
    let mut connections = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        connections.push(http::Connection::open(&host).await?);
    }
    let left = Arc::new(AtomicI64::new(jobs));
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for connection in connections {
        clients.spawn(submit_some(connection, Arc::clone(&request), Arc::clone(&left)));
    }
    let mut latencies = Latencies::default();
    while let Some(ended) = clients.join_next().await {
        latencies.merge(&ended.context("a client panicked")??);
    }
    Ok(Submitted { rate: jobs as f64 / begun.elapsed().as_secs_f64(), latencies })
}

async fn submit_some(
    mut connection: http::Connection,
    request: Arc<[u8]>,
    left: Arc<AtomicI64>,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    while left.fetch_sub(1, Ordering::Relaxed) > 0 {
        let begun = Instant::now();
        let answer = connection.ask(&request).await?;
        latencies.note(begun.elapsed());
        let said = || String::from_utf8_lossy(answer.body);
        ensure!(answer.status == 201, "a submit was answered with {}: {}", answer.status, said());
    }
    Ok(latencies)
}

/// The statement that stores one job, as `Store::submit` runs it.
const SUBMIT_ONE: &str = "\
SELECT * FROM sluice.submit_batch(ARRAY[sluice.uuid_v7()], ARRAY['default'], ARRAY['default'], ARRAY['no-op'], \
ARRAY['/v1/chat/completions'], ARRAY[3]::smallint[], ARRAY[NULL]::text[], ARRAY[NULL]::timestamptz[], \
ARRAY[NULL]::timestamptz[], ARRAY[NULL]::smallint[], ARRAY[false], ARRAY['{}']::jsonb[], ARRAY[NULL]::text[], \
ARRAY[convert_to(repeat('0123456789', 30), 'UTF8')], 2000);
";

async fn limit(server: &Server, jobs: i64) -> Result<f64> {
    let database = server.database().await?;
    let script = pgbench::Script {
        text: SUBMIT_ONE,
        clients: CLIENTS,
        transactions: jobs as u64 / CLIENTS as u64,
        variables: Vec::new(),
    };
    let measured = pgbench::run(&database, &script).await?;
    database.remove().await?;
    Ok(measured.per_second)
}

async fn enqueue(server: &Server, peer: &Peer, jobs: i64, sheet: &mut Sheet) -> Result<()> {
    let Some(database) = peer.prepare(server, 0).await? else { return Ok(()) };
    let (clients, jobs) = (CLIENTS.to_string(), jobs.to_string());
    let figures = peer.ask(&database, &["enqueue-single", "--clients", &clients, "--jobs", &jobs]).await?;
    database.remove().await?;
    let Some(figures) = figures else { return Ok(()) };
    if let (Some(done), Some(seconds)) = (figures["jobs"].as_f64(), figures["seconds"].as_f64()) {
        progress!("S2: {}: {:.0} jobs/s", peer.name, done / seconds);
        sheet.note(&peer.name, VARIANT, JOBS_PER_S, done / seconds);
    }
    for metric in [P50_MS, P99_MS] {
        if let Some(value) = figures[metric.name].as_f64() {
            sheet.note(&peer.name, VARIANT, metric, value);
        }
    }
    Ok(())
}
