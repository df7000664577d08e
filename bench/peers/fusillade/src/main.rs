//! `fusillade`: a daemon that sends batches of requests to a model's API. It runs no jobs of one's own, so it makes
//! `calls` only.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter::{Operation, Unsupported};
use anyhow::{Result, bail};
use fusillade::{
    BatchId, BatchInput, DaemonConfig, DaemonMode, PostgresDaemon, RequestTemplateInput, Storage,
};
use fusillade_arsenal::{PostgresRequestManager, TestDbPools};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

/// What the simulator serves.
const MODEL: &str = "gpt-sim";
/// Documentation of `DaemonConfig::max_concurrent_state_writes`: apart from the concurrency of calls. On two cores fewer than
/// the default of 64 were faster.
const STATE_WRITES: usize = 16;
/// Room for the writes of states and for the claims.
const CONNECTIONS: u32 = 24;
/// As often as the end of the batch is looked for.
const END_POLL: Duration = Duration::from_millis(50);
const STALLED_AFTER: Duration = Duration::from_mins(2);

type Store = PostgresRequestManager<TestDbPools>;

async fn setup(pool: &PgPool) -> Result<()> {
    sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(pool).await?;
    Ok(fusillade_arsenal::migrator().run(pool).await?)
}

/// Measured from the start of the daemon to the last answer stored; the batch is made before.
async fn calls(pool: PgPool, concurrency: usize, calls: usize, url: &str) -> Result<Value> {
    let config = tuned(concurrency);
    let store = Arc::new(Store::new(TestDbPools::new(pool).await?, (&config).into()));
    let batch = submit(&store, calls, url).await?;
    let daemon = Arc::new(PostgresDaemon::from_store(Arc::clone(&store), config));
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let running = daemon.run(CancellationToken::new())?;
    loop {
        let status = store.get_batch_status(batch).await?;
        if status.is_finished() {
            let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
            if status.failed_requests > 0 {
                bail!("{} of {calls} calls failed", status.failed_requests);
            }
            return Ok(
                json!({"calls": calls, "seconds": seconds, "cpu_ms_per_call": cpu * 1e3 / calls as f64}),
            );
        }
        if running.is_finished() || began.elapsed() > STALLED_AFTER {
            bail!("stopped at {} of {calls} calls", status.completed_requests);
        }
        tokio::time::sleep(END_POLL).await;
    }
}

fn tuned(concurrency: usize) -> DaemonConfig {
    let config = DaemonConfig {
        // README, "Claim daemons": rows of batches are claimed by a loop of their own.
        mode: DaemonMode::BatchOnly,
        // As many at once as may be in flight, and no waiting between claims: both are waited for otherwise.
        claim_batch_size: concurrency,
        claim_interval_ms: 1,
        max_concurrent_state_writes: STATE_WRITES,
        status_log_interval_ms: None,
        throughput_log_interval_ms: None,
        ..DaemonConfig::default()
    };
    // README, "Concurrency Control".
    config.model_concurrency_limits.insert(MODEL.into(), concurrency);
    config
}

async fn submit(store: &Store, calls: usize, url: &str) -> Result<BatchId> {
    let body =
        json!({"model": MODEL, "messages": [{"role": "user", "content": "x".repeat(230)}]}).to_string();
    let template = RequestTemplateInput {
        custom_id: None,
        endpoint: url.to_owned(),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        body,
        model: MODEL.into(),
        api_key: "none".into(),
    };
    let file_id = store.create_file("calls".into(), None, vec![template; calls]).await?;
    let batch = store
        .create_batch(BatchInput {
            file_id,
            endpoint: "/v1/chat/completions".into(),
            completion_window: "24h".into(),
            metadata: None,
            created_by: None,
            api_key_id: None,
            api_key: None,
            total_requests: None,
        })
        .await?;
    Ok(batch.id)
}

/// Of this process, user and system.
fn cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn main() -> ExitCode {
    adapter::run(async |database, operation| {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&database).await?;
        match operation {
            Operation::Setup => setup(&pool).await.map(|()| None),
            Operation::Calls { concurrency, calls: count, url } => {
                calls(pool, concurrency, count, &url).await.map(Some)
            }
            _ => Err(Unsupported("it makes calls and runs no jobs").into()),
        }
    })
}
