//! W1: what a job costs Postgres beside time: bytes of WAL, dead rows; and what a process that has nothing to do asks.
//!
//! The WAL is what the server's position advances by while jobs with bodies of 300 bytes are submitted in batches, leased
//! and settled with answers of 600, full pages included. Dead rows are those that were deleted or replaced. Queries when
//! idle are counted in the server's log, for a `sluice scheduler` and a `sluice worker` one after the other, each over
//! the same time after a while of rest.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::{
    progress,
    rig::{
        Bench, Database, Metric, SLUICE, Server, Sheet,
        processes::Sluice,
        worker_side::{Workers, check_done_once},
    },
    s1,
};

const WAL_BYTES: Metric = Metric::new("wal_bytes_per_job", "B");
const DEAD_ROWS: Metric = Metric::new("dead_rows_per_job", "1");
const QUERIES: Metric = Metric::new("idle_queries_per_s", "1/s");

/// A process settles into idleness in this time.
const REST: Duration = Duration::from_secs(8);

/// Every statement goes to the log, behind the name of who asked.
const LOG_ALL: &[(&str, &str)] = &[("log_line_prefix", "asked by %a: "), ("log_statement", "all")];

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("W1");
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        cost(&server, bench.choose(200_000, 50_000), &mut sheet).await?;
        progress!("W1 run {run}: WAL and dead rows are counted");
    }
    drop(server);
    let time = bench.choose(Duration::from_mins(1), Duration::from_secs(15));
    let server = Server::start_with(LOG_ALL).await?;
    for _ in 0..bench.runs {
        for role in ["scheduler", "worker"] {
            let queries = idle_queries(&server, role, time).await?;
            progress!("W1: an idle {role}: {queries:.2} queries/s");
            sheet.note(SLUICE, &format!("role={role}"), QUERIES, queries);
        }
    }
    bench.publish(&sheet)
}

async fn cost(server: &Server, jobs: u64, sheet: &mut Sheet) -> Result<()> {
    let database = server.database().await?;
    let at_first = wal_position(&database).await?;
    s1::submit(&database, jobs as usize).await?;
    let when_submitted = wal_position(&database).await?;
    let workers = Workers::connect(&database, 2).await?;
    workers.work(jobs).await?;
    let at_last = wal_position(&database).await?;
    check_done_once(&database, jobs).await?;
    for (variant, from, to) in [
        ("submit", at_first, when_submitted),
        ("lease+settle", when_submitted, at_last),
        ("all", at_first, at_last),
    ] {
        sheet.note(SLUICE, variant, WAL_BYTES, (to - from) as f64 / jobs as f64);
    }
    sheet.note(SLUICE, "all", DEAD_ROWS, dead_rows(&database).await? as f64 / jobs as f64);
    database.remove().await
}

/// How far the write-ahead log has come, in bytes.
pub async fn wal_position(database: &Database) -> Result<i64> {
    database.number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await
}

/// The statistics of a session arrive when it ends, or a second later.
async fn dead_rows(database: &Database) -> Result<i64> {
    sleep(Duration::from_secs(2)).await;
    database
        .number("SELECT coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'sluice'")
        .await
}

async fn idle_queries(server: &Server, role: &str, time: Duration) -> Result<f64> {
    let database = server.database().await?;
    let folder = tempfile::tempdir()?;
    let listen = ["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"];
    let arguments: Vec<&str> = if role == "scheduler" { [&[role], &listen[..]].concat() } else { vec![role] };
    let mut process = Sluice::start(role, folder.path(), &arguments, &[("DATABASE_URL", database.url())])?;
    sleep(REST).await;
    let before = queries(&server.log_path())?;
    sleep(time).await;
    let after = queries(&server.log_path())?;
    anyhow::ensure!(process.id().is_some(), "the {role} ended: {}", process.log());
    process.stop().await?;
    database.remove().await?;
    Ok((after - before) as f64 / time.as_secs_f64())
}

/// Statements in the log that a process of ours asked.
fn queries(log: &Path) -> Result<usize> {
    let text = std::fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let is_query = |line: &&str| {
        line.starts_with("asked by sluice")
            && (line.contains(": LOG:  execute ") || line.contains(": LOG:  statement: "))
    };
    Ok(text.lines().filter(is_query).count())
}
