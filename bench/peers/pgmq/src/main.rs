//! `pgmq`: a message queue in SQL, no runner of jobs. Its "worker" here reads a batch, "handles" it and deletes it.

use std::process::ExitCode;
use std::time::Duration;

use adapter::{Payload, Peer, Tuning, Worker};
use anyhow::Result;
use pgmq::{Message, PGMQueueExt};
use sqlx::postgres::PgPoolOptions;

const QUEUE: &str = "no_op";
/// `send_batch` and `read_batch` take any number (the crate's documentation of PGMQueueExt); a thousand is where more
/// brings nothing.
const BATCH: u32 = 1_000;
/// Longer than any run: what is read is deleted at once.
const VISIBILITY_TIMEOUT_SECONDS: i32 = 120;
/// A fallback to polling is recommended beside the notifications (documentation of `enable_notify_insert`).
const FALLBACK_POLL: Duration = Duration::from_millis(250);

struct Pgmq {
    queue: PGMQueueExt,
}

impl Peer for Pgmq {
    async fn setup(url: &str) -> Result<()> {
        let queue = open(url, 1).await?;
        sqlx::raw_sql("DROP SCHEMA IF EXISTS pgmq CASCADE").execute(&queue.connection).await?;
        // README, "Installing PGMQ": into a plain Postgres, by the SQL that the crate brings along.
        queue.install_sql_from_embedded().await?;
        queue.create(QUEUE).await?;
        Ok(())
    }

    async fn connect(url: &str, connections: u32) -> Result<Self> {
        Ok(Self { queue: open(url, connections).await? })
    }

    async fn enqueue_bulk(&self, jobs: u64) -> Result<()> {
        let mut left = jobs;
        while left > 0 {
            let batch = left.min(BATCH.into());
            let messages: Vec<_> = (0..batch).map(|_| Payload::new()).collect();
            self.queue.send_batch(QUEUE, &messages).await?;
            left -= batch;
        }
        Ok(())
    }

    async fn enqueue_one(&self) -> Result<()> {
        self.queue.send(QUEUE, &Payload::new()).await?;
        Ok(())
    }

    async fn workers(&self, tuning: Tuning, workers: u32) -> Result<Vec<Worker>> {
        if tuning == Tuning::Latency {
            // Without a throttle: each insert notifies.
            self.queue.enable_notify_insert(QUEUE, Duration::ZERO).await?;
        }
        let mut prepared: Vec<Worker> = Vec::new();
        for _ in 0..workers {
            let queue = open(&self.queue.url, 2).await?;
            match tuning {
                Tuning::Throughput => prepared.push(Box::pin(drain(queue))),
                Tuning::Latency => prepared.push(Box::pin(listen(queue))),
            }
        }
        Ok(prepared)
    }

    async fn unfinished(&self) -> Result<u64> {
        Ok(self.queue.metrics(QUEUE).await?.queue_length.unsigned_abs())
    }
}

async fn drain(queue: PGMQueueExt) -> Result<()> {
    loop {
        if take_batch(&queue).await? == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn listen(queue: PGMQueueExt) -> Result<()> {
    let mut listener = queue.queue_insert_listener(QUEUE).await?;
    loop {
        while take_batch(&queue).await? > 0 {}
        // A timeout is the fallback, and no error.
        if let Ok(notification) = tokio::time::timeout(FALLBACK_POLL, listener.recv()).await {
            notification?;
        }
    }
}

async fn take_batch(queue: &PGMQueueExt) -> Result<usize> {
    let messages: Vec<Message<Payload>> =
        queue.read_batch(QUEUE, VISIBILITY_TIMEOUT_SECONDS, BATCH.cast_signed()).await?;
    if messages.is_empty() {
        return Ok(0);
    }
    messages.iter().for_each(|_| adapter::handled());
    let ids: Vec<i64> = messages.iter().map(|message| message.msg_id).collect();
    Ok(queue.delete_batch(QUEUE, &ids).await?)
}

/// With a pool of its own, since the client's own way to connect wants a password in the URL.
async fn open(url: &str, connections: u32) -> Result<PGMQueueExt> {
    let pool = PgPoolOptions::new().max_connections(connections).connect(url).await?;
    let mut queue = PGMQueueExt::new_with_pool(pool).await;
    url.clone_into(&mut queue.url);
    Ok(queue)
}

fn main() -> ExitCode {
    adapter::main::<Pgmq>()
}
