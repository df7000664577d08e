//! `apalis` with its Postgres storage.

use std::process::ExitCode;
use std::time::Duration;

use adapter::{Payload, Peer, Tuning, Worker};
use anyhow::Result;
use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Handle;

const QUEUE: &str = "no_op";
/// `push_bulk` makes one INSERT of what it is given (documentation of `push_tasks`).
const BULK: u64 = 5_000;
/// Documentation of `Config::batch_size`: "Larger batches can improve throughput"; they did up to this.
const BATCH: usize = 5_000;

struct Apalis {
    pool: PgPool,
    storage: PostgresStorage<Payload>,
    url: String,
}

impl Peer for Apalis {
    async fn setup(url: &str) -> Result<()> {
        let pool = pool(url, 1).await?;
        sqlx::raw_sql("DROP SCHEMA IF EXISTS apalis CASCADE").execute(&pool).await?;
        Ok(PostgresStorage::setup(&pool).await?)
    }

    async fn connect(url: &str, connections: u32) -> Result<Self> {
        let pool = pool(url, connections).await?;
        let storage = PostgresStorage::new(&pool).with_config(Config::default().queue(QUEUE));
        Ok(Self { pool, storage, url: url.to_owned() })
    }

    async fn enqueue_bulk(&self, jobs: u64) -> Result<()> {
        let mut storage = self.storage.clone();
        let mut left = jobs;
        while left > 0 {
            let batch = left.min(BULK);
            storage.push_bulk((0..batch).map(|_| Payload::new()).collect()).await?;
            left -= batch;
        }
        Ok(())
    }

    async fn enqueue_one(&self) -> Result<()> {
        Ok(self.storage.clone().push(Payload::new()).await?)
    }

    async fn workers(&self, tuning: Tuning, workers: u32) -> Result<Vec<Worker>> {
        let mut prepared: Vec<Worker> = Vec::new();
        for number in 0..workers {
            let storage = PostgresStorage::new(&pool(&self.url, 10).await?);
            let name = format!("worker-{number}");
            prepared.push(Box::pin(async move {
                // On a thread of its own, since the compiler can't see that these futures may move between threads.
                let running = move || match tuning {
                    Tuning::Throughput => Handle::current().block_on(drain(storage, name)),
                    Tuning::Latency => Handle::current().block_on(listen(storage, name)),
                };
                tokio::task::spawn_blocking(running).await?
            }));
        }
        Ok(prepared)
    }

    async fn unfinished(&self) -> Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.unsigned_abs())
    }
}

async fn drain(storage: PostgresStorage<Payload>, name: String) -> Result<()> {
    // Without `lock_tasks` a job is marked when it is fetched and when it is done, and not in between; so the crate's own
    // tests have it. What is done is still stored: `persist_results` is on by default.
    let config = Config::default().queue(QUEUE).batch_size(BATCH).lock_tasks(false);
    let backend =
        storage.with_config(config).poll_with_strategy(Strategy::new().interval(Duration::from_millis(5)));
    // README of apalis: `concurrency` and `parallelize(tokio::spawn)`.
    WorkerBuilder::new(name)
        .backend(backend)
        .concurrency(BATCH)
        .parallelize(tokio::spawn)
        .build(no_op)
        .run()
        .await?;
    Ok(())
}

async fn listen(storage: PostgresStorage<Payload>, name: String) -> Result<()> {
    // README of apalis-postgres, "Pubsub listener example".
    let backend = storage
        .with_config(Config::default().queue(QUEUE).lock_tasks(false))
        .with_pubsub()
        .poll_with_strategy(Strategy::new().interval(Duration::from_secs(5)));
    WorkerBuilder::new(name).backend(backend).concurrency(4).build(no_op).run().await?;
    Ok(())
}

async fn no_op(_: Payload) -> Result<(), BoxDynError> {
    adapter::handled();
    Ok(())
}

async fn pool(url: &str, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(connections).connect(url).await?)
}

fn main() -> ExitCode {
    adapter::main::<Apalis>()
}
