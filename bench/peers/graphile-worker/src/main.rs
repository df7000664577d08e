//! `graphile_worker`, the Rust port of Graphile Worker.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use adapter::{Payload, Peer, Tuning, Worker};
use anyhow::Result;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

const SCHEMA: &str = "graphile_worker";
/// Guide, "Batch jobs": `add_jobs` takes any number and is one statement. It returns every row; larger batches were slower.
const BULK: u64 = 500;

#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct NoOp(Payload);

impl TaskHandler for NoOp {
    const IDENTIFIER: &'static str = "no_op";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        adapter::handled();
        Ok::<(), String>(())
    }
}

struct GraphileWorker {
    pool: PgPool,
    utils: WorkerUtils,
    url: String,
}

impl Peer for GraphileWorker {
    async fn setup(url: &str) -> Result<()> {
        let pool = pool(url, 1).await?;
        sqlx::raw_sql("DROP SCHEMA IF EXISTS graphile_worker CASCADE").execute(&pool).await?;
        Ok(WorkerUtils::new(pool, SCHEMA).migrate().await?)
    }

    async fn connect(url: &str, connections: u32) -> Result<Self> {
        let pool = pool(url, connections).await?;
        Ok(Self { utils: WorkerUtils::new(pool.clone(), SCHEMA), pool, url: url.to_owned() })
    }

    async fn enqueue_bulk(&self, jobs: u64) -> Result<()> {
        let spec = JobSpec::default();
        let mut left = jobs;
        while left > 0 {
            let batch = left.min(BULK);
            let jobs: Vec<_> = (0..batch).map(|_| (NoOp(Payload::new()), &spec)).collect();
            self.utils.add_jobs(&jobs).await?;
            left -= batch;
        }
        Ok(())
    }

    async fn enqueue_one(&self) -> Result<()> {
        self.utils.add_job(NoOp(Payload::new()), JobSpec::default()).await?;
        Ok(())
    }

    async fn workers(&self, tuning: Tuning, workers: u32) -> Result<Vec<Worker>> {
        let mut prepared = Vec::new();
        for _ in 0..workers {
            let options = WorkerOptions::default()
                .pg_pool(pool(&self.url, 20).await?)
                .schema(SCHEMA)
                .define_job::<NoOp>()
                .listen_os_shutdown_signals(false);
            let worker = Arc::new(tuned(options, tuning).init().await?);
            let running: Worker = Box::pin(async move { Ok(worker.run().await?) });
            prepared.push(running);
        }
        Ok(prepared)
    }

    async fn unfinished(&self) -> Result<u64> {
        // A job that is done is deleted.
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM graphile_worker._private_jobs")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.unsigned_abs())
    }
}

fn tuned(options: WorkerOptions, tuning: Tuning) -> WorkerOptions {
    match tuning {
        // The crate's own benchmark of throughput (benches/perf_test.rs) has these; the guide's "Local queue" and
        // "Worker options" explain them. The pool is the default of `max_pg_conn`.
        Tuning::Throughput => options
            .concurrency(500)
            .poll_interval(Duration::from_millis(5))
            .complete_job_batch_delay(Duration::from_millis(5))
            .local_queue(LocalQueueConfig::default().with_size(5_000)),
        // Guide, "Local queue": the default direct fetch is meant for rare jobs; NOTIFY wakes it (on by default).
        Tuning::Latency => options.concurrency(4),
    }
}

async fn pool(url: &str, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new()
        .min_connections(connections.min(2))
        .max_connections(connections)
        .connect(url)
        .await?)
}

fn main() -> ExitCode {
    adapter::main::<GraphileWorker>()
}
