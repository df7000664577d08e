//! The fault lab: one installation of real processes on a private Postgres, each of which can be killed, paused,
//! started again and asked to end; the load on it; and the three records that are judged afterwards.
//!
//! The server is [`sluice_testkit::TestCluster`]. Not here: what is done to it all (`rows`), and what must hold
//! (`history`).

pub mod by_hand;
mod fail_over;
mod fake_clock;
mod fleet;
mod load;
pub mod proxy;
mod records;
mod recovery;
mod timing;
pub mod tls_front;
pub mod tools;
pub mod unreachable;
mod upstream;
mod wait;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_cluster::Durability;
use sluice_domain::JobId;
use sluice_testkit::TestCluster;
use sqlx::{PgPool, postgres::PgPoolOptions};

pub use self::{
    fake_clock::FakeClock,
    fleet::{Scheduler, Worker},
    load::{Load, LoadPlan, Told},
    records::Reckoning,
    recovery::{Recovery, rate_between, rate_is_back},
    timing::Timing,
    upstream::Upstream,
    wait::until,
};
use crate::{history::TakenBack, processes::Process};

/// Connections of the lab itself.
const CONNECTIONS: u32 = 4;

/// What an installation is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lease TTL, with beat and scan in proportion.
    pub timing: Timing,
    /// Decides the simulator's answers and their times.
    pub seed: u64,
    /// How long calls take, as `sluice sim --latency` reads it.
    pub latency: String,
    /// Further options of `sluice sim`.
    pub simulator: Vec<String>,
    /// Settings of the server.
    pub server_settings: Vec<(&'static str, &'static str)>,
}

/// An installation; everything ends with the value.
#[derive(Debug)]
pub struct Lab {
    /// The server.
    pub cluster: TestCluster,
    /// The simulator.
    pub upstream: Upstream,
    /// Schedulers that run, the first started first.
    pub schedulers: Vec<Scheduler>,
    /// Workers that were started, also those that have ended.
    pub workers: Vec<Worker>,
    /// Lease TTL, beat and scan.
    pub timing: Timing,
    /// Variables of every process; a row may add some before it starts more.
    pub variables: Vec<(&'static str, String)>,
    /// What a fail-over lost; nothing where there was none.
    pub taken_back: TakenBack,
    folder: PathBuf,
    pool: PgPool,
}

impl Lab {
    /// Starts the server and the simulator and applies a configuration; no role runs yet.
    pub async fn start(folder: &Path, plan: Plan) -> Result<Self> {
        // Whoever was first installed it: once is enough.
        rustls::crypto::ring::default_provider().install_default().ok();
        std::fs::create_dir_all(folder).context("make the lab's folder")?;
        let cluster = TestCluster::start_with(Durability::Full, &plan.server_settings).await;
        let upstream = Upstream::start(folder, &plan).await?;
        let pool = connect(cluster.url()).await?;
        let variables = vec![
            ("DATABASE_URL", cluster.url().to_owned()),
            ("SLUICE_LOG_FORMAT", "json".to_owned()),
            ("SIM_KEY", "sk-sim".to_owned()),
            ("SLUICE_LEASE_TTL", format!("{}ms", plan.timing.ttl.as_millis())),
        ];
        let lab = Self {
            cluster,
            upstream,
            schedulers: Vec::new(),
            workers: Vec::new(),
            timing: plan.timing,
            variables,
            taken_back: TakenBack::default(),
            folder: folder.to_owned(),
            pool,
        };
        lab.configure(&lab.configuration(&lab.upstream.base_url())).await?;
        Ok(lab)
    }

    /// The usual configuration: one upstream, ten tries with short delays.
    pub fn configuration(&self, base_url: &str) -> Value {
        json!({
            "upstreams": [{"name": "sim", "provider": "deepseek", "base_url": base_url, "api_key": "${SIM_KEY}"}],
            "queues": [{"name": "default",
                        "retry": {"max_attempts": 10, "base_delay": "50ms", "max_delay": "1s"}}],
        })
    }

    /// Applies a configuration.
    pub async fn configure(&self, configuration: &Value) -> Result<()> {
        let file = self.folder.join("sluice.yaml");
        std::fs::write(&file, configuration.to_string()).context("write the configuration")?;
        let file = file.to_str().context("the folder's name is text")?;
        Process::run(&self.folder, &["apply", "-f", file], &self.variables).await.map(drop)
    }

    /// Where logs and records lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Connections to the database, for looking.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Submits a job to the first scheduler, with its key also as the body's `user`, by which its calls are known.
    pub async fn submit(&self, key: &str, prompt: &str) -> Result<JobId> {
        let body = json!({
            "body": {"model": "deepseek-flash", "user": key, "messages": [{"role": "user", "content": prompt}]},
            "idempotency_key": key,
        });
        let scheduler = self.schedulers.first().context("no scheduler was started")?;
        let answer =
            reqwest::Client::new().post(format!("{}/v1/jobs", scheduler.url)).json(&body).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        Ok(answer["id"].as_str().context("a submit without an id")?.parse()?)
    }

    /// How many jobs have ended.
    pub async fn ended(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM sluice.done").fetch_one(&self.pool).await?)
    }

    /// The database's clock.
    pub async fn now(&self) -> Result<chrono::DateTime<chrono::Utc>> {
        Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&self.pool).await?)
    }
}

/// The lab's own connections to a server.
async fn connect(url: &str) -> Result<PgPool> {
    let options = PgPoolOptions::new()
        // All at once and for good: a row may use up what is left.
        .min_connections(CONNECTIONS)
        .max_connections(CONNECTIONS)
        .idle_timeout(None)
        .max_lifetime(None);
    Ok(options.connect(url).await?)
}
