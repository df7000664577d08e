//! C1: everybody at once for ten minutes: nothing deadlocks, nothing fails, nothing gets slower, nothing grows.
//!
//! Real processes: a scheduler, four workers, the simulator with answers after 20 ms. 64 clients submit a job over REST,
//! wait for its end, read it and now and then list, each one job at a time. *Slope* is the change of the rate over the whole time,
//! by a straight line through the rates of each second, in percent of the mean. *Memory* is that of scheduler and
//! workers; its growth is from the first fifth of the time, when caches are filled, to the end. It is measured once,
//! whatever the number of runs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    progress,
    rig::{
        Bench, Database, JOBS_PER_S, Metric, SLUICE, Server, Sheet, http, payload,
        processes::{Sluice, cpu_seconds, cpu_seconds_of_family, memory_kb},
    },
};

const WORKERS: usize = 4;
const CLIENTS: usize = 64;
const VARIANT: &str = "workers=4 clients=64";
/// One job in so many is followed by a look at the list.
const LIST_EVERY: u64 = 50;

const DEADLOCKS: Metric = Metric::new("deadlocks", "1");
const ERRORS: Metric = Metric::new("errors", "1");
const SLOPE: Metric = Metric::new("slope_percent", "%");
const MEMORY: Metric = Metric::new("memory_mb", "MB");
const CPU: Metric = Metric::new("cpu_ms_per_job", "ms");
const GROWTH: Metric = Metric::new("memory_growth_percent", "%");

/// Measures it.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("C1");
    let seconds = bench.choose(600, 60);
    let server = Server::start().await?;
    let database = server.database().await?;
    let folder = tempfile::tempdir()?;
    let site = Site::start(&database, folder.path()).await?;
    let cpu = site.cpu_seconds(&server);
    let watched = watch(&site, seconds).await?;
    note_cpu(&mut sheet, cpu, site.cpu_seconds(&server), watched.rates.iter().sum());
    sheet.note(SLUICE, VARIANT, JOBS_PER_S, mean(&watched.rates));
    sheet.note(SLUICE, VARIANT, SLOPE, slope_percent(&watched.rates));
    sheet.note(SLUICE, VARIANT, ERRORS, watched.errors as f64);
    sheet.note(SLUICE, VARIANT, DEADLOCKS, deadlocks(&database).await? as f64);
    let (first, last) =
        (watched.memory_mb[watched.memory_mb.len() / 5], *watched.memory_mb.last().context("a look")?);
    sheet.note(SLUICE, VARIANT, MEMORY, last);
    sheet.note(SLUICE, VARIANT, GROWTH, (last / first - 1.0) * 100.0);
    site.stop().await?;
    bench.publish(&sheet)
}

/// The processes.
struct Site {
    host: String,
    simulator: Sluice,
    measured: Vec<Sluice>,
}

impl Site {
    async fn start(database: &Database, folder: &Path) -> Result<Self> {
        let own = [("DATABASE_URL", database.url())];
        let arguments = ["sim", "--listen", "127.0.0.1:0", "--latency", "20ms", "--output", "json"];
        let mut simulator = Sluice::start("sim", folder, &arguments, &[])?;
        let told = simulator.first_line().await?;
        let base_url = told["base_url"].as_str().context("the simulator tells its URL")?;
        let file = folder.join("sluice.yaml");
        std::fs::write(&file, configuration(base_url)).context("write the configuration")?;
        Sluice::run(folder, &["apply", "-f", &file.to_string_lossy()], &own).await?;
        let arguments =
            ["scheduler", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--output", "json"];
        let mut scheduler = Sluice::start("scheduler", folder, &arguments, &own)?;
        let told = scheduler.first_line().await?;
        let url = told["url"].as_str().context("the scheduler tells its URL")?;
        let host = http::host_of(url)?.to_owned();
        let mut measured = vec![scheduler];
        for number in 0..WORKERS {
            measured.push(Sluice::start(&format!("worker-{number}"), folder, &["worker"], &own)?);
        }
        Ok(Self { host, simulator, measured })
    }

    fn memory_mb(&self) -> Result<f64> {
        let mut sum = 0;
        for process in &self.measured {
            let used = process.id().and_then(memory_kb);
            sum += used.with_context(|| format!("a process ended: {}", process.log()))?;
        }
        Ok(sum as f64 / 1024.0)
    }

    /// What scheduler, workers and Postgres have used of the processors so far.
    fn cpu_seconds(&self, server: &Server) -> [f64; 3] {
        let pids: Vec<i32> = self.measured.iter().filter_map(Sluice::id).collect();
        let (scheduler, workers) = pids.split_at(1);
        let postgres = server.postmaster_pid().map_or(0.0, cpu_seconds_of_family);
        [cpu_seconds(scheduler), cpu_seconds(workers), postgres]
    }

    async fn stop(mut self) -> Result<()> {
        for process in self.measured.iter_mut().rev() {
            process.stop().await?;
        }
        self.simulator.stop().await
    }
}

fn note_cpu(sheet: &mut Sheet, before: [f64; 3], after: [f64; 3], jobs: f64) {
    for (at, role) in ["scheduler", "workers", "postgres"].into_iter().enumerate() {
        sheet.note(SLUICE, &format!("{VARIANT} role={role}"), CPU, (after[at] - before[at]) * 1_000.0 / jobs);
    }
}

fn configuration(base_url: &str) -> String {
    let model = payload::MODEL;
    format!(
        "upstreams:\n  - {{ name: sim, provider: openai, base_url: \"{base_url}\", account: sim }}\n\
         routes:\n  - {{ model: {model}, targets: [ {{ upstream: sim, model: gpt-sim }} ] }}\n"
    )
}

#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    errors: AtomicU64,
    is_over: AtomicBool,
}

/// What was seen over the whole time.
struct Watched {
    rates: Vec<f64>,
    memory_mb: Vec<f64>,
    errors: u64,
}

async fn watch(site: &Site, seconds: u64) -> Result<Watched> {
    let counts = Arc::new(Counts::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(site.host.clone(), Arc::clone(&counts)));
    }
    let (mut rates, mut memory_mb) = (Vec::new(), Vec::new());
    // Everything is new in the first seconds.
    let begun = Instant::now() + Duration::from_secs(5);
    sleep_until(begun).await;
    let mut before = counts.ended.load(Ordering::Relaxed);
    for second in 1..=seconds {
        sleep_until(begun + Duration::from_secs(second)).await;
        let now = counts.ended.load(Ordering::Relaxed);
        rates.push((now - before) as f64);
        before = now;
        memory_mb.push(site.memory_mb()?);
        if second % 30 == 0 {
            progress!("C1: after {second} s: {:.0} jobs/s, {:.0} MB", mean(&rates), site.memory_mb()?);
        }
    }
    counts.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")?;
    }
    Ok(Watched { rates, memory_mb, errors: counts.errors.load(Ordering::Relaxed) })
}

/// One client, on a new connection after each error.
async fn client(host: String, counts: Arc<Counts>) {
    while !counts.is_over.load(Ordering::Relaxed) {
        if let Err(error) = use_connection(&host, &counts).await {
            counts.errors.fetch_add(1, Ordering::Relaxed);
            progress!("C1: {error:#}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn use_connection(host: &str, counts: &Counts) -> Result<()> {
    let mut connection = http::Connection::open(host).await?;
    let body = format!("{{\"body\":{}}}", String::from_utf8(payload::body())?);
    let submit = http::post(host, "/v1/jobs", body.as_bytes());
    let list = http::get(host, "/v1/jobs?state=running&limit=20");
    let mut number = 0_u64;
    while !counts.is_over.load(Ordering::Relaxed) {
        let answer = connection.ask(&submit).await?;
        ensure!(answer.status == 201, "a submit was answered with {}", answer.status);
        let job: Value = serde_json::from_slice(answer.body)?;
        let id = job["id"].as_str().context("a job has an id")?.to_owned();
        wait_for_end(&mut connection, host, &id).await?;
        counts.ended.fetch_add(1, Ordering::Relaxed);
        number += 1;
        if number.is_multiple_of(LIST_EVERY) {
            let answer = connection.ask(&list).await?;
            ensure!(answer.status == 200, "a list was answered with {}", answer.status);
        }
    }
    Ok(())
}

async fn wait_for_end(connection: &mut http::Connection, host: &str, id: &str) -> Result<()> {
    let read = http::get(host, &format!("/v1/jobs/{id}?wait=30s"));
    for _ in 0..3 {
        let answer = connection.ask(&read).await?;
        ensure!(answer.status == 200, "a read was answered with {}", answer.status);
        let job: Value = serde_json::from_slice(answer.body)?;
        match job["state"].as_str() {
            Some("succeeded") => return Ok(()),
            Some("queued" | "running") => {}
            other => anyhow::bail!("a job is {other:?}: {}", job["error"]),
        }
    }
    anyhow::bail!("the job {id} did not end")
}

async fn deadlocks(database: &Database) -> Result<i64> {
    database.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The change from the first to the last value of the straight line through all, in percent of their mean.
fn slope_percent(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let mean = mean(values);
    let distances = || (0..values.len()).map(|at| at as f64 - middle);
    let along: f64 = distances().map(|distance| distance * distance).sum();
    let across: f64 = distances().zip(values).map(|(distance, value)| distance * (value - mean)).sum();
    across / along * (values.len() as f64 - 1.0) / mean * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_the_change_over_the_whole_time() {
        assert!(slope_percent(&[5.0, 5.0, 5.0]).abs() < 1e-9);
        assert!((slope_percent(&[90.0, 95.0, 100.0, 105.0, 110.0]) - 20.0).abs() < 1e-9);
    }
}
