//! Q3: an outage, and how soon another region carries the rate. Calls arrive at a steady pace, and go to the first region while
//! it works. Then it is *killed*, or *swallows* packets: its process is stopped, so that connections hang and nothing is
//! refused. Later it is healed.
//!
//! What is measured: seconds until a second comes in which the other region gets 95 % of the pace, and after the healing
//! seconds until the first does again; jobs that failed; calls that may have been made twice (the ledger's unknown and lost
//! attempts) against those that were under way.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sluice_testkit::job;
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    progress,
    rig::{
        Bench, Database, Metric, SLUICE, Server, Sheet,
        http::host_of,
        processes::Sluice,
        simulated::{CallLog, Simulated, now},
    },
};

const WORKERS: usize = 4;
const CALLS_PER_S: usize = 200;
const MODEL: &str = "gpt-sim";
const LATENCY_MS: u64 = 300;
/// Jobs are submitted in groups, so far apart.
const GROUP_EVERY: Duration = Duration::from_millis(50);
/// A second in which so many come carries the rate.
const CARRIED: usize = CALLS_PER_S * 95 / 100;
/// After its end nobody needs so long.
const PATIENCE: Duration = Duration::from_mins(2);

const FAILOVER_S: Metric = Metric::new("failover_s", "s");
const BACK_S: Metric = Metric::new("back_s", "s");
const FAILED: Metric = Metric::new("jobs_failed", "1");
const REPEATED: Metric = Metric::new("calls_repeated", "1");
const UNDER_WAY: Metric = Metric::new("calls_under_way", "1");

/// What happens to the first region.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    Killed,
    Swallows,
}

/// Seconds before the outage, of it, and after it.
#[derive(Clone, Copy)]
struct Times {
    before: u64,
    outage: u64,
    after: u64,
}

/// Measures it.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("Q3");
    let times =
        bench.choose(Times { before: 30, outage: 60, after: 60 }, Times { before: 6, outage: 14, after: 20 });
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        for (variant, outage) in [("killed", Outage::Killed), ("swallows packets", Outage::Swallows)] {
            let database = server.database().await?;
            let seen = outage_of(&database, outage, times).await?;
            database.remove().await?;
            let said = |seconds: Option<f64>| {
                seconds.map_or_else(|| "never".to_owned(), |s| format!("after {s:.1} s"))
            };
            progress!(
                "Q3 run {run}: {variant}: the other region {}, back {}, {} failed, {} repeated of {} under way",
                said(seen.failover_s),
                said(seen.back_s),
                seen.failed,
                seen.repeated,
                seen.under_way
            );
            for (metric, value) in [
                (FAILOVER_S, seen.failover_s),
                (BACK_S, seen.back_s),
                (FAILED, Some(seen.failed as f64)),
                (REPEATED, Some(seen.repeated as f64)),
                (UNDER_WAY, Some(seen.under_way)),
            ] {
                if let Some(value) = value {
                    sheet.note(SLUICE, variant, metric, value);
                }
            }
        }
    }
    bench.publish(&sheet)
}

struct Seen {
    failover_s: Option<f64>,
    back_s: Option<f64>,
    failed: i64,
    repeated: i64,
    under_way: f64,
}

fn settings() -> Value {
    json!({
        "models": [{"id": MODEL, "dialect": "openai", "kind": "chat", "context_tokens": 128_000,
                    "max_output_tokens": 16_384}],
        "answer_tokens": {"min": 1, "max": 1},
        "latency": {"first_token": {"kind": "lognormal", "p50_ms": LATENCY_MS, "p99_ms": LATENCY_MS * 2},
                    "per_token": {"kind": "fixed", "ms": 0.0}},
    })
}

/// The two regions with their workers.
struct Stage {
    folder: TempDir,
    first: Simulated,
    second: Simulated,
    workers: Vec<Sluice>,
}

impl Stage {
    async fn set(database: &Database) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let first = Simulated::start(folder.path(), "first", None, settings()).await?;
        let second = Simulated::start(folder.path(), "second", None, settings()).await?;
        let region = |name: &str, url: &str, priority: u8| {
            format!(
                "  - {{ name: {name}, provider: openai, base_url: \"{url}\", account: {name}, priority: {priority} }}\n"
            )
        };
        let text = format!(
            "upstreams:\n{}{}routes:\n  - {{ model: {MODEL}, targets: [ {{ upstream: first }}, {{ upstream: second }} ] }}\n",
            region("first", &first.base_url, 1),
            region("second", &second.base_url, 2)
        );
        let configuration = folder.path().join("sluice.yaml");
        fs::write(&configuration, text).context("write a configuration")?;
        let configuration = configuration.to_str().context("a folder's name is no text")?;
        let variables = [("DATABASE_URL", database.url())];
        Sluice::run(folder.path(), &["apply", "-f", configuration], &variables).await?;
        let worker = |number: usize| {
            let arguments = ["worker", "--concurrency", "200"];
            Sluice::start(&format!("worker-{number}"), folder.path(), &arguments, &variables)
        };
        let workers = (0..WORKERS).map(worker).collect::<Result<Vec<_>>>()?;
        Ok(Self { folder, first, second, workers })
    }
}

async fn outage_of(database: &Database, outage: Outage, times: Times) -> Result<Seen> {
    let Stage { folder, mut first, second, mut workers } = Stage::set(database).await?;
    let (stop, stopped) = oneshot::channel();
    let submitting = tokio::spawn(submit(database.clone(), stopped));
    sleep(Duration::from_secs(times.before)).await;

    let broken_at = now();
    let mut before = CallLog::default();
    match outage {
        Outage::Killed => first.signal(Signal::SIGKILL)?,
        Outage::Swallows => first.signal(Signal::SIGSTOP)?,
    }
    sleep(Duration::from_secs(times.outage)).await;
    let healed_at = now();
    match outage {
        Outage::Killed => {
            before = first.calls()?;
            first = again(folder.path(), &first).await?;
        }
        Outage::Swallows => first.signal(Signal::SIGCONT)?,
    }
    sleep(Duration::from_secs(times.after)).await;
    let ended_at = now();

    drop(stop);
    let submitted = submitting.await.context("submit jobs")??;
    until_ended(database, submitted).await?;
    for worker in &mut workers {
        worker.stop().await?;
    }
    let first = before.with(first.stop().await?);
    let second = second.stop().await?;
    let carries = |log: &CallLog, from: DateTime<Utc>, to: DateTime<Utc>| log.arrived(from, to) >= CARRIED;
    let just_before = broken_at - chrono::TimeDelta::milliseconds(200);
    Ok(Seen {
        failover_s: second.until(broken_at, healed_at, carries),
        back_s: first.until(healed_at, ended_at, carries),
        failed: database.number("SELECT count(*) FROM sluice.done WHERE state <> 'succeeded'").await?,
        repeated: database
            .number("SELECT count(*) FROM sluice.ledger_ended WHERE outcome IN ('unknown', 'lost')")
            .await?,
        under_way: first.under_way(just_before, broken_at),
    })
}

/// The first region again, where it was.
async fn again(folder: &Path, gone: &Simulated) -> Result<Simulated> {
    Simulated::start(folder, "first-again", Some(host_of(&gone.base_url)?), settings()).await
}

/// Submits at the pace until it is stopped; how many.
async fn submit(database: Database, mut stopped: oneshot::Receiver<()>) -> Result<usize> {
    let store = database.store(2).await?;
    let mut ticks = interval(GROUP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let group = CALLS_PER_S * GROUP_EVERY.as_millis() as usize / 1_000;
    let mut submitted = 0;
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(submitted),
            _ = ticks.tick() => {}
        }
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": submitted.to_string()}]});
        let jobs = job().model(MODEL).body(&body).times(group);
        store.submit_many(&jobs).await?;
        store.wake_sleepers().await?;
        submitted += group;
    }
}

async fn until_ended(database: &Database, submitted: usize) -> Result<()> {
    let begun = Instant::now();
    while database.number("SELECT count(*) FROM sluice.done").await? < submitted as i64 {
        ensure!(begun.elapsed() < PATIENCE, "not all jobs have ended");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
