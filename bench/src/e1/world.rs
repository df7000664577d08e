//! What a worker's calls need around them: a database with a configuration, a simulator as a process of its own, and the
//! worker's process. [`crate::m1`] stands on it, too.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

use crate::rig::{
    Database, Server, fixture,
    http::{self, Connection},
    payload,
    processes::Sluice,
};

/// How long the upstream holds a call.
pub type Hold = Duration;

/// Between two looks at how far the calls are.
const LOOK: Duration = Duration::from_millis(10);
/// Without any progress for so long, something is wrong.
const PATIENCE: Duration = Duration::from_mins(2);
/// After this time a connection is not used again.
const IDLE: Duration = Duration::from_secs(5);
/// Tokens of an answer: with them the simulator's answers have 600 to 650 bytes.
const ANSWER_TOKENS: u64 = 45;

/// A simulator as a process of its own.
#[derive(Debug)]
pub struct Simulator {
    process: Sluice,
    base_url: String,
    connection: Connection,
    asked_at: Instant,
}

/// How many calls were answered, and when that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Answered calls.
    pub calls: u64,
    /// The moment.
    pub at: Instant,
}

impl Simulator {
    /// Starts one that holds each call for so long. Its log lies in `folder`.
    pub async fn start(folder: &Path, hold: Hold) -> Result<Self> {
        let settings = folder.join("simulator.json");
        std::fs::write(&settings, settings_text(hold)).context("write the simulator's settings")?;
        let settings = settings.to_str().context("a folder's name is no text")?;
        let arguments = ["sim", "--settings", settings, "--output", "json"];
        let mut process = Sluice::start("simulator", folder, &arguments, &[])?;
        let line = process.first_line().await?;
        let base_url = line["base_url"].as_str().context("the simulator tells its address")?.to_owned();
        let connection = Connection::open(http::host_of(&base_url)?).await?;
        Ok(Self { process, base_url, connection, asked_at: Instant::now() })
    }

    /// Its base URL, without `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Its process.
    pub fn pid(&self) -> Result<i32> {
        self.process.id().context("the simulator has ended")
    }

    /// What it counted.
    pub async fn stats(&mut self) -> Result<Value> {
        let host = http::host_of(&self.base_url)?;
        // A connection that was idle for long is closed.
        if self.asked_at.elapsed() > IDLE {
            self.connection = Connection::open(host).await?;
        }
        let answer = self.connection.ask(&http::get(host, "/sim/stats")).await?;
        self.asked_at = Instant::now();
        serde_json::from_slice(answer.body).context("read the simulator's counts")
    }

    /// Ends it.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }
}

fn settings_text(hold: Hold) -> String {
    // The payload's model, and one that OpenAI's own client can ask for.
    let model = |id: &str| {
        json!({"id": id, "dialect": "openai", "kind": "chat", "context_tokens": 128_000,
               "max_output_tokens": 16_384})
    };
    let first_token = json!({"kind": "fixed", "ms": hold.as_secs_f64() * 1_000.0});
    json!({
        "listen": "127.0.0.1:0", "require_key": false, "models": [model(payload::MODEL), model("gpt-sim")],
        "latency": {"first_token": first_token, "per_token": {"kind": "fixed", "ms": 0.0}},
        "answer_tokens": {"min": ANSWER_TOKENS, "max": ANSWER_TOKENS},
    })
    .to_string()
}

/// A database whose jobs lead to a simulator, and a worker between the two.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    database: Database,
    simulator: Simulator,
    worker: Option<Sluice>,
}

impl World {
    /// All but the worker.
    pub async fn start(server: &Server, hold: Hold) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let database = server.database().await?;
        let simulator = Simulator::start(folder.path(), hold).await?;
        let configuration = folder.path().join("sluice.yaml");
        let text = format!(
            "upstreams:\n  - {{ name: sim, provider: openai, base_url: \"{}\", account: sim }}\n",
            simulator.base_url()
        );
        std::fs::write(&configuration, text).context("write a configuration")?;
        let file = configuration.to_str().context("a folder's name is no text")?;
        Sluice::run(folder.path(), &["apply", "-f", file], &[("DATABASE_URL", database.url())]).await?;
        Ok(Self { folder, database, simulator, worker: None })
    }

    /// The database.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Where the simulator is.
    pub fn upstream_url(&self) -> &str {
        self.simulator.base_url()
    }

    /// Adds so many queued jobs.
    pub async fn fill(&self, jobs: u64) -> Result<()> {
        fixture::fill(&self.database, jobs).await
    }

    /// Starts a role with this database.
    pub fn start_role(&self, arguments: &[&str]) -> Result<Sluice> {
        let role = arguments.first().copied().unwrap_or("sluice");
        Sluice::start(role, self.folder.path(), arguments, &[("DATABASE_URL", self.database.url())])
    }

    /// Starts the worker; gives its process id.
    pub fn start_worker(&mut self, concurrency: usize) -> Result<i32> {
        let worker = self.start_role(&["worker", "--concurrency", &concurrency.to_string()])?;
        let pid = worker.id().context("the worker has ended")?;
        self.worker = Some(worker);
        Ok(pid)
    }

    /// What the simulator counted.
    pub async fn stats(&mut self) -> Result<Value> {
        self.simulator.stats().await
    }

    /// Waits until the simulator has answered so many calls.
    pub async fn until_answered(&mut self, calls: u64) -> Result<Seen> {
        self.until("answered", calls).await
    }

    /// Waits until so many calls are under way at the simulator.
    pub async fn until_running(&mut self, calls: u64) -> Result<Seen> {
        self.until("running", calls).await
    }

    async fn until(&mut self, count: &str, wanted: u64) -> Result<Seen> {
        let began_at = Instant::now();
        loop {
            let calls = self.stats().await?[count].as_u64().unwrap_or_default();
            let at = Instant::now();
            if calls >= wanted {
                return Ok(Seen { calls, at });
            }
            let said = || self.worker.as_ref().map(Sluice::log).unwrap_or_default();
            ensure!(began_at.elapsed() < PATIENCE, "only {calls} calls are {count}: {}", said());
            sleep(LOOK).await;
        }
    }

    /// Waits until so many jobs have ended.
    pub async fn until_done(&mut self, jobs: u64) -> Result<()> {
        self.until_answered(jobs).await?;
        let began_at = Instant::now();
        while self.database.number("SELECT count(*) FROM sluice.done").await? < jobs as i64 {
            ensure!(began_at.elapsed() < PATIENCE, "not all jobs have ended");
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Drains the worker.
    pub async fn stop_worker(&mut self) -> Result<()> {
        match self.worker.take() {
            Some(mut worker) => worker.stop().await,
            None => Ok(()),
        }
    }

    /// Ends the simulator and drops the database.
    pub async fn remove(mut self) -> Result<()> {
        self.stop_worker().await?;
        self.simulator.stop().await?;
        self.database.remove().await
    }
}
