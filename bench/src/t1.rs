//! T1: how soon an idle system takes up a job: from the submit to the start of its attempt, and to the arrival of its
//! call at the upstream.
//!
//! Jobs come one at a time, each some tens of milliseconds after the one before has ended, so that the worker sleeps.
//! `submit=sql` submits over `sluice.submit` on a connection of its own, which rings its doorbell itself; `submit=rest`
//! over a `sluice scheduler`. Both begin with the first byte sent. The attempt starts where the worker's log says so,
//! which is the first line of what handles a leased job; the call has arrived where the simulator's ledger says so.
//! Worker, scheduler and simulator are processes of their own; all read the same clock. *Peers* enqueue over SQL and end
//! where their handler begins.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::PgConnection;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    e1::world::{Hold, Simulator},
    progress,
    rig::{
        Bench, Database, Latencies, Metric, Peer, SLUICE, Server, Sheet,
        http::{self, Connection},
        payload,
        processes::Sluice,
    },
};

const START_P50_MS: Metric = Metric::new("start_p50_ms", "ms");
const START_P99_MS: Metric = Metric::new("start_p99_ms", "ms");
const ARRIVAL_P50_MS: Metric = Metric::new("arrival_p50_ms", "ms");
const ARRIVAL_P99_MS: Metric = Metric::new("arrival_p99_ms", "ms");
const SQL: &str = "submit=sql";
const REST: &str = "submit=rest";
/// Jobs before it counts: connections, plans and caches are warm then.
const WARM_UP: u64 = 50;
/// Between two jobs, so that the worker has gone to sleep, and a second doorbell is not the first one's echo: this, and
/// up to so much more, so that no rhythm is met.
const PAUSE: Duration = Duration::from_millis(25);
const MORE_PAUSE_MS: u64 = 15;
/// A job that has not started by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("T1");
    let jobs = bench.choose(1_000, 200);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        for door in [SQL, REST] {
            let taken_up = sluice(&server, door, jobs).await?;
            for (what, took, [p50_ms, p99_ms]) in [
                ("start", &taken_up.starts, [START_P50_MS, START_P99_MS]),
                ("arrival", &taken_up.arrivals, [ARRIVAL_P50_MS, ARRIVAL_P99_MS]),
            ] {
                let (p50, p99) = (took.percentile_ms(50.0), took.percentile_ms(99.0));
                progress!("T1 run {run}: sluice, {door}: {what} p50 {p50:.2} ms, p99 {p99:.2} ms");
                sheet.note(SLUICE, door, p50_ms, p50);
                sheet.note(SLUICE, door, p99_ms, p99);
            }
        }
        for peer in bench.peers() {
            ask(&server, &peer, jobs, &mut sheet).await?;
        }
    }
    bench.publish(&sheet)
}

async fn ask(server: &Server, peer: &Peer, jobs: u64, sheet: &mut Sheet) -> Result<()> {
    let Some(database) = peer.prepare(server, 0).await? else { return Ok(()) };
    let figures = peer.ask(&database, &["start-latency", "--jobs", &jobs.to_string()]).await?;
    database.remove().await?;
    let Some(figures) = figures else { return Ok(()) };
    for (metric, name) in [(START_P50_MS, "p50_ms"), (START_P99_MS, "p99_ms")] {
        if let Some(value) = figures[name].as_f64() {
            progress!("T1: {}: {name} {value:.2}", peer.name);
            sheet.note(&peer.name, SQL, metric, value);
        }
    }
    Ok(())
}

/// What a job goes through.
struct World {
    folder: TempDir,
    database: Database,
    simulator: Simulator,
    worker: Sluice,
}

impl World {
    async fn start(server: &Server) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let database = server.database().await?;
        let simulator = Simulator::start(folder.path(), Hold::ZERO).await?;
        let configuration = folder.path().join("sluice.yaml");
        let upstream = format!(
            "upstreams:\n  - {{ name: sim, provider: openai, base_url: \"{}\", account: sim }}\n",
            simulator.base_url()
        );
        std::fs::write(&configuration, upstream).context("write a configuration")?;
        let file = configuration.to_str().context("a folder's name is no text")?;
        let url = [("DATABASE_URL", database.url())];
        Sluice::run(folder.path(), &["apply", "-f", file], &url).await?;
        let [level, format] =
            [("SLUICE_LOG", "info,sluice_worker::attempt=debug"), ("SLUICE_LOG_FORMAT", "json")];
        let worker = Sluice::start("worker", folder.path(), &["worker"], &[url[0], level, format])?;
        Ok(Self { folder, database, simulator, worker })
    }

    async fn door(&self, door: &str) -> Result<Door> {
        if door == SQL {
            return Ok(Door::Sql(Box::new(self.database.connect().await?)));
        }
        let arguments =
            ["scheduler", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--output", "json"];
        let url = [("DATABASE_URL", self.database.url())];
        let mut scheduler = Sluice::start("scheduler", self.folder.path(), &arguments, &url)?;
        let told = scheduler.first_line().await?;
        let host = http::host_of(told["url"].as_str().context("the scheduler tells its URL")?)?.to_owned();
        let connection = Connection::open(&host).await?;
        Ok(Door::Rest { scheduler: Box::new(scheduler), connection, host })
    }

    async fn stop(mut self) -> Result<()> {
        self.simulator.stop().await?;
        self.database.remove().await
    }
}

/// Where jobs come in.
enum Door {
    Sql(Box<PgConnection>),
    Rest { scheduler: Box<Sluice>, connection: Connection, host: String },
}

impl Door {
    /// Submits a job; gives the moment before its first byte.
    async fn submit(&mut self) -> Result<DateTime<Utc>> {
        let body = String::from_utf8(payload::body())?;
        match self {
            Self::Sql(connection) => {
                let begun = clock();
                let submit = sqlx::query("SELECT sluice.submit($1::json)").bind(&body);
                submit.execute(&mut **connection).await.context("submit a job over SQL")?;
                Ok(begun)
            }
            Self::Rest { connection, host, .. } => {
                let request = http::post(host, "/v1/jobs", format!("{{\"body\":{body}}}").as_bytes());
                let begun = clock();
                let answer = connection.ask(&request).await?;
                ensure!(answer.status == 201, "a submit was answered with {}", answer.status);
                Ok(begun)
            }
        }
    }

    async fn stop(self) -> Result<()> {
        match self {
            Self::Sql(_) => Ok(()),
            Self::Rest { mut scheduler, .. } => scheduler.stop().await,
        }
    }
}

/// How long after its submit each job was taken up.
#[derive(Default)]
struct TakenUp {
    starts: Latencies,
    arrivals: Latencies,
}

async fn sluice(server: &Server, door: &str, jobs: u64) -> Result<TakenUp> {
    let mut world = World::start(server).await?;
    let mut door = world.door(door).await?;
    let mut ledger = Ledger::open(&world.simulator).await?;
    let (mut submits, mut taken_up) = (Vec::new(), TakenUp::default());
    for number in 1..=WARM_UP + jobs {
        let submitted_at = door.submit().await?;
        submits.push(submitted_at);
        let arrived = timeout(PATIENCE, ledger.arrival(number)).await;
        let arrived_at = arrived.with_context(|| format!("job {number} did not start"))??;
        if number > WARM_UP {
            taken_up.arrivals.note(since(submitted_at, arrived_at)?);
        }
        sleep(PAUSE + Duration::from_millis(number * 7 % MORE_PAUSE_MS)).await;
    }
    door.stop().await?;
    // Its log is complete when it has ended.
    world.worker.stop().await?;
    let starts = attempts_begun(&world.worker.log())?;
    ensure!(starts.len() == submits.len(), "{} attempts of {} jobs began", starts.len(), submits.len());
    for (submitted_at, started_at) in submits.into_iter().zip(starts).skip(WARM_UP as usize) {
        taken_up.starts.note(since(submitted_at, started_at)?);
    }
    world.stop().await?;
    Ok(taken_up)
}

fn since(submitted_at: DateTime<Utc>, at: DateTime<Utc>) -> Result<Duration> {
    (at - submitted_at).to_std().context("a job that was taken up before its submit")
}

/// When attempts began, by the log of a worker.
fn attempts_begun(log: &str) -> Result<Vec<DateTime<Utc>>> {
    #[derive(Deserialize)]
    struct Line {
        time: DateTime<Utc>,
        message: String,
    }
    let mut begun = Vec::new();
    for line in log.lines() {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("read a line of the log: {line}"))?;
        if line.message == "an attempt begins" {
            begun.push(line.time);
        }
    }
    Ok(begun)
}

/// What the simulator has received.
struct Ledger {
    connection: Connection,
    host: String,
}

#[derive(Deserialize)]
struct Arrival {
    arrived_at: DateTime<Utc>,
}

impl Ledger {
    async fn open(simulator: &Simulator) -> Result<Self> {
        let host = http::host_of(simulator.base_url())?.to_owned();
        Ok(Self { connection: Connection::open(&host).await?, host })
    }

    /// When the call of this number arrived.
    async fn arrival(&mut self, number: u64) -> Result<DateTime<Utc>> {
        let request = http::get(&self.host, &format!("/sim/ledger?after={}", number - 1));
        loop {
            // Longer than a start takes, so that looking costs the measured ones nothing.
            sleep(Duration::from_millis(8)).await;
            let answer = self.connection.ask(&request).await?;
            if !answer.body.is_empty() {
                let arrival: Arrival = serde_json::from_slice(answer.body).context("read the ledger")?;
                return Ok(arrival.arrived_at);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "processes of one machine are compared by its clock")]
fn clock() -> DateTime<Utc> {
    Utc::now()
}
