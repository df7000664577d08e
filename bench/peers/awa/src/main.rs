//! `awa`, on its queue storage engine.

use std::process::ExitCode;
use std::time::Duration;

use adapter::{Payload, Peer, Tuning, Worker};
use anyhow::Result;
use awa::{
    Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

const QUEUE: &str = "no_op";
/// Rows of one COPY; beyond this nothing was gained.
const BULK: u64 = 2_000;
/// README, "Partitioned FIFO and ordering keys": to be raised on a contended queue, at the price of a strict order. It
/// doubled what sixteen clients submit one by one, and slowed down workers, so only the former have it.
const SHARDS_IF_CONTENDED: i16 = 16;

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct NoOp(Payload);

impl JobArgs for NoOp {
    fn kind() -> &'static str {
        "no_op"
    }
}

struct Awa {
    pool: PgPool,
    storage: QueueStorage,
    url: String,
}

impl Peer for Awa {
    async fn setup(url: &str) -> Result<()> {
        let pool = pool(url, 2).await?;
        sqlx::raw_sql("DROP SCHEMA IF EXISTS awa CASCADE").execute(&pool).await?;
        // A fresh schema has the queue storage engine at once.
        Ok(awa::migrations::run(&pool).await?)
    }

    async fn connect(url: &str, connections: u32) -> Result<Self> {
        let pool = pool(url, connections).await?;
        if connections > 1 {
            shard(&pool).await?;
        }
        Ok(Self { pool, storage: QueueStorage::new(QueueStorageConfig::default())?, url: url.to_owned() })
    }

    async fn enqueue_bulk(&self, jobs: u64) -> Result<()> {
        let job = parameters()?;
        let mut left = jobs;
        while left > 0 {
            let batch = left.min(BULK);
            let jobs: Vec<_> = (0..batch).map(|_| job.clone()).collect();
            // "For high-volume queue-storage producers, prefer QueueStorage::enqueue_params_copy": documentation of
            // `insert_many_copy`.
            self.storage.enqueue_params_copy(&self.pool, &jobs).await?;
            left -= batch;
        }
        Ok(())
    }

    async fn enqueue_one(&self) -> Result<()> {
        self.storage.enqueue_params_batch(&self.pool, &[parameters()?]).await?;
        Ok(())
    }

    async fn workers(&self, tuning: Tuning, workers: u32) -> Result<Vec<Worker>> {
        let mut prepared = Vec::new();
        for _ in 0..workers {
            let client = Client::builder(pool(&self.url, 20).await?)
                .queue(QUEUE, tuned(tuning))
                .register::<NoOp, _, _>(|_, _| {
                    adapter::handled();
                    async { Ok(JobResult::Completed) }
                })
                .build()?;
            let running: Worker = Box::pin(async move {
                client.start().await?;
                std::future::pending().await
            });
            prepared.push(running);
        }
        Ok(prepared)
    }

    async fn unfinished(&self) -> Result<u64> {
        let counts = self.storage.queue_counts(&self.pool, QUEUE).await?;
        Ok((counts.available + counts.running).unsigned_abs())
    }
}

fn tuned(tuning: Tuning) -> QueueConfig {
    match tuning {
        // As in the author's own comparison of queues where it saturates them: 256 workers a client (more, with the
        // four shards of completions that 512 bring, were slower); and jobs without a deadline, which are claimed by
        // the compact path (documentation of QueueStorageConfig::lease_claim_receipts). Claims and completions go by
        // 512 by default.
        Tuning::Throughput => QueueConfig {
            max_workers: 256,
            poll_interval: Duration::from_millis(50),
            deadline_duration: Duration::ZERO,
            ..QueueConfig::default()
        },
        // As the crate's own benchmark of pickup latency (tests/benchmark_test.rs).
        Tuning::Latency => {
            QueueConfig { max_workers: 10, deadline_duration: Duration::ZERO, ..QueueConfig::default() }
        }
    }
}

async fn shard(pool: &PgPool) -> Result<()> {
    sqlx::query(
        "INSERT INTO awa.queue_meta (queue, enqueue_shards) VALUES ($1, $2)
         ON CONFLICT (queue) DO UPDATE SET enqueue_shards = EXCLUDED.enqueue_shards",
    )
    .bind(QUEUE)
    .bind(SHARDS_IF_CONTENDED)
    .execute(pool)
    .await?;
    Ok(())
}

fn parameters() -> Result<InsertParams> {
    let options = InsertOpts { queue: QUEUE.into(), ..InsertOpts::default() };
    Ok(awa::model::insert::params_with(&NoOp(Payload::new()), options)?)
}

async fn pool(url: &str, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(connections).connect(url).await?)
}

fn main() -> ExitCode {
    adapter::main::<Awa>()
}
