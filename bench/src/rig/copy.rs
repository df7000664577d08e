//! Rows in the binary format of COPY, the fastest way into a table: the limit of submitting in bulk.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_domain::{JobId, NewJob};
use sqlx::{Connection, Executor, PgConnection};

use super::Database;

/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Bytes of one message to the server.
const MESSAGE_BYTES: usize = 256 * 1024;

const COPY_JOBS: &str = "COPY sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, \
                         hold_on_unknown, tags, body) FROM STDIN (FORMAT binary)";
const COPY_READY: &str = "COPY sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, \
                          crashes, refusals, hold_on_unknown) FROM STDIN (FORMAT binary)";

/// Copies jobs into `jobs` and `ready`, so many in a transaction, and says how long that took. The rows are encoded
/// before.
pub async fn copy_jobs(database: &Database, jobs: &[NewJob], batch: usize) -> Result<Duration> {
    let mut connection = database.connect().await?;
    let lane: i64 = sqlx::query_scalar("SELECT sluice.lane_id('default', 'default', $1)")
        .bind(super::payload::MODEL)
        .fetch_one(&mut connection)
        .await?;
    let now: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        .fetch_one(&mut connection)
        .await?;
    let batches: Vec<_> = jobs.chunks(batch).map(|jobs| encoded(jobs, lane, now - EPOCH_MICROS)).collect();
    let begun = Instant::now();
    for (wide, narrow) in &batches {
        connection.execute("BEGIN").await?;
        send(&mut connection, COPY_JOBS, wide).await?;
        send(&mut connection, COPY_READY, narrow).await?;
        connection.execute("COMMIT").await?;
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(took)
}

async fn send(connection: &mut PgConnection, statement: &str, bytes: &[u8]) -> Result<()> {
    let mut copy = connection.copy_in_raw(statement).await?;
    for message in bytes.chunks(MESSAGE_BYTES) {
        copy.send(message).await?;
    }
    copy.finish().await?;
    Ok(())
}

fn encoded(jobs: &[NewJob], lane: i64, now: i64) -> (Vec<u8>, Vec<u8>) {
    let (mut wide, mut narrow) = (Rows::new(), Rows::new());
    for (number, job) in jobs.iter().enumerate() {
        let key = now + number as i64 / 1000;
        let priority = i16::from(job.priority.get());
        wide.row(11);
        wide.id(job.id);
        for text in [job.tenant.as_str(), job.queue.as_str(), job.model.as_str()] {
            wide.field(text.as_bytes());
        }
        // The usual path.
        wide.null();
        wide.field(&lane.to_be_bytes());
        wide.field(&priority.to_be_bytes());
        wide.field(&key.to_be_bytes());
        wide.field(&[0]);
        // jsonb: a version, then text.
        wide.field(b"\x01{}");
        wide.field(&job.body);

        narrow.row(11);
        narrow.field(&lane.to_be_bytes());
        narrow.field(&priority.to_be_bytes());
        narrow.field(&1_i16.to_be_bytes());
        narrow.field(&key.to_be_bytes());
        narrow.id(job.id);
        narrow.field(&1_i32.to_be_bytes());
        narrow.field(&0_i32.to_be_bytes());
        for _ in 0..3 {
            narrow.field(&0_i16.to_be_bytes());
        }
        narrow.field(&[0]);
    }
    (wide.end(), narrow.end())
}

struct Rows(Vec<u8>);

impl Rows {
    /// The signature, no flags, no further header.
    fn new() -> Self {
        Self(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec())
    }

    fn row(&mut self, fields: i16) {
        self.0.extend(fields.to_be_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as i32).to_be_bytes());
        self.0.extend(bytes);
    }

    fn null(&mut self) {
        self.0.extend((-1_i32).to_be_bytes());
    }

    fn id(&mut self, id: JobId) {
        self.field(id.as_uuid().as_bytes());
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend((-1_i16).to_be_bytes());
        self.0
    }
}
