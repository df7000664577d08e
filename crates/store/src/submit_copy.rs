//! Submitting many jobs without keys by COPY, which stores a page of rows at a time: less than half the work of a
//! statement, and less of the write-ahead log.
//!
//! It takes a transaction, so it runs in a task of its own: a caller that goes away half way must not leave a pooled
//! connection inside one.

use chrono::{DateTime, Utc};
use sqlx::{
    Connection as _,
    postgres::{PgConnection, PgPool},
};

use sluice_domain::{ApiPath, NewJob, OnUnknown, Priority, SubmitOutcome};

use crate::StoreError;

/// Fewer jobs are as fast in a statement.
const FEWEST: usize = 100;
/// More bytes of bodies than this are not gathered in one piece.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// First bytes of a binary COPY: signature, flags and length of the extension (PostgreSQL's documentation of COPY,
/// "Binary Format").
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Its last: a row of -1 fields.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Postgres counts microseconds from 2000-01-01, as microseconds of the Unix epoch.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Whether these jobs can be stored this way, and gain by it. Over TCP they would not: the messages of a COPY leave one
/// by one, `sqlx` doesn't switch Nagle's algorithm off, and each batch then waits 40 ms for a delayed acknowledgement.
pub(crate) fn is_for(pool: &PgPool, jobs: &[NewJob]) -> bool {
    let options = pool.connect_options();
    let is_local = options.get_socket().is_some() || options.get_host().starts_with('/');
    is_local
        && jobs.len() >= FEWEST
        && jobs.iter().all(|job| job.idempotency_key.is_none() && job.webhook.is_none())
        && jobs.iter().map(|job| job.body.len()).sum::<usize>() <= MOST_BYTES
}

/// Stores all or, on an error, none.
pub(crate) async fn submit(pool: &PgPool, jobs: &[NewJob]) -> Result<Vec<SubmitOutcome>, StoreError> {
    let (pool, rows) = (pool.clone(), Rows::of(jobs));
    let task = tokio::spawn(async move { store(&pool, rows).await });
    match task.await {
        Ok(stored) => stored?,
        Err(error) => return Err(StoreError::UnknownValue(format!("the task that stored jobs: {error}"))),
    }
    Ok(jobs.iter().map(|job| SubmitOutcome::Created(job.id)).collect())
}

async fn store(pool: &PgPool, mut rows: Rows) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let clock = sqlx::query!(
        r#"-- job_submit_clock
        SELECT sluice.submit_clock() AS "now!",
               ARRAY(SELECT sluice.lane_id(l.tenant, l.queue, l.model)
                     FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
                          AS l(tenant, queue, model, ordinal)
                     ORDER BY l.ordinal) AS "lanes!""#,
        &rows.lanes.iter().map(|lane| lane.0.clone()).collect::<Vec<_>>(),
        &rows.lanes.iter().map(|lane| lane.1.clone()).collect::<Vec<_>>(),
        &rows.lanes.iter().map(|lane| lane.2.clone()).collect::<Vec<_>>(),
    )
    .fetch_one(&mut *transaction)
    .await?;
    let ready = rows.complete(clock.now, &clock.lanes);
    copy_in(
        &mut transaction,
        "COPY sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, deadline, max_attempts,
             hold_on_unknown, tags, traceparent, body) FROM STDIN (FORMAT binary)",
        rows.jobs,
    )
    .await?;
    copy_in(
        &mut transaction,
        "COPY sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
             hold_on_unknown, deadline) FROM STDIN (FORMAT binary)",
        ready,
    )
    .await?;
    transaction.commit().await?;
    // It keeps the largest buffers that it ever needed, and with it each connection of the pool.
    connection.shrink_buffers();
    Ok(())
}

async fn copy_in(connection: &mut PgConnection, statement: &str, data: Vec<u8>) -> Result<(), StoreError> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(data).await?;
    copy.finish().await?;
    Ok(())
}

/// The rows of both tables, but for what only the database knows: the clock and the ids of the lanes.
struct Rows {
    /// Tenant, queue and model of each lane, once.
    lanes: Vec<(String, String, String)>,
    /// The data of the COPY to `jobs`, with gaps.
    jobs: Vec<u8>,
    /// What the rows of `ready` and the gaps are made from.
    waiting: Vec<Waiting>,
}

struct Waiting {
    /// Where the eight bytes of the lane's id belong in the data of `jobs`,
    lane_at: usize,
    /// and those of the time of the submit.
    created_at: usize,
    lane: usize,
    priority: Priority,
    run_at: Option<DateTime<Utc>>,
    deadline: Option<DateTime<Utc>>,
    holds: bool,
    id: [u8; 16],
}

impl Rows {
    fn of(jobs: &[NewJob]) -> Self {
        let bytes: usize = jobs.iter().map(|job| job.body.len() + 256).sum();
        let mut rows = Self {
            lanes: Vec::new(),
            jobs: Vec::with_capacity(HEADER.len() + bytes),
            waiting: Vec::with_capacity(jobs.len()),
        };
        rows.jobs.extend_from_slice(HEADER);
        for job in jobs {
            rows.push(job);
        }
        rows.jobs.extend_from_slice(&TRAILER);
        rows
    }

    fn push(&mut self, job: &NewJob) {
        let lane = self.lane_of(job);
        let (id, holds) = (job.id.as_uuid().into_bytes(), job.on_unknown == OnUnknown::Hold);
        let row = &mut self.jobs;
        row.extend_from_slice(&14_i16.to_be_bytes());
        put(row, &id);
        for text in [job.tenant.as_str(), job.queue.as_str(), job.model.as_str()] {
            put(row, text.as_bytes());
        }
        // The usual path is not stored, as in `sluice.submit_batch`.
        put_if(row, (job.path != ApiPath::default()).then(|| job.path.as_str()));
        let lane_at = put_gap(row);
        put(row, &i16::from(job.priority.get()).to_be_bytes());
        let created_at = put_gap(row);
        put_time(row, job.deadline);
        put_if(row, job.max_attempts.map(|most| (most as i16).to_be_bytes()));
        put(row, &[u8::from(holds)]);
        put_tags(row, job);
        put_if(row, job.traceparent.as_deref());
        put(row, &job.body);
        self.waiting.push(Waiting {
            lane_at,
            created_at,
            lane,
            priority: job.priority,
            run_at: job.run_at,
            deadline: job.deadline,
            holds,
            id,
        });
    }

    /// Few jobs in a row change their lane.
    fn lane_of(&mut self, job: &NewJob) -> usize {
        let is_it = |lane: &(String, String, String)| {
            lane.2 == job.model.as_str() && lane.1 == job.queue.as_str() && lane.0 == job.tenant.as_str()
        };
        if let Some(at) = self.lanes.iter().rposition(is_it) {
            return at;
        }
        self.lanes.push((job.tenant.to_string(), job.queue.to_string(), job.model.to_string()));
        self.lanes.len() - 1
    }

    /// Fills the gaps; the data of the COPY to `ready`.
    fn complete(&mut self, now: DateTime<Utc>, lanes: &[i64]) -> Vec<u8> {
        let mut ready = Vec::with_capacity(HEADER.len() + self.waiting.len() * 128);
        ready.extend_from_slice(HEADER);
        for job in &self.waiting {
            let lane_id = lanes.get(job.lane).copied().unwrap_or_default().to_be_bytes();
            self.jobs[job.lane_at..][..8].copy_from_slice(&lane_id);
            self.jobs[job.created_at..][..8].copy_from_slice(&as_micros(now).to_be_bytes());
            // As `sluice.submit_batch` does: what is for later stands in the line of those that come back.
            let (line, key) = match job.run_at {
                Some(run_at) if as_micros(run_at) > as_micros(now) => (0_i16, run_at),
                _ => (1, now),
            };
            ready.extend_from_slice(&12_i16.to_be_bytes());
            put(&mut ready, &lane_id);
            put(&mut ready, &i16::from(job.priority.get()).to_be_bytes());
            put(&mut ready, &line.to_be_bytes());
            put_time(&mut ready, Some(key));
            put(&mut ready, &job.id);
            put(&mut ready, &1_i32.to_be_bytes());
            put(&mut ready, &0_i32.to_be_bytes());
            for _ in ["tries", "crashes", "refusals"] {
                put(&mut ready, &0_i16.to_be_bytes());
            }
            put(&mut ready, &[u8::from(job.holds)]);
            put_time(&mut ready, job.deadline);
        }
        ready.extend_from_slice(&TRAILER);
        ready
    }
}

/// A field: its length, then its bytes. Bodies are far below the 2 GiB that the length can tell.
fn put(row: &mut Vec<u8>, field: &[u8]) {
    row.extend_from_slice(&(field.len() as i32).to_be_bytes());
    row.extend_from_slice(field);
}

fn put_if(row: &mut Vec<u8>, field: Option<impl AsRef<[u8]>>) {
    match field {
        Some(field) => put(row, field.as_ref()),
        None => row.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}

fn put_time(row: &mut Vec<u8>, time: Option<DateTime<Utc>>) {
    put_if(row, time.map(|time| as_micros(time).to_be_bytes()));
}

/// Eight bytes that are filled in later; says where they are.
fn put_gap(row: &mut Vec<u8>) -> usize {
    put(row, &[0; 8]);
    row.len() - 8
}

/// Binary `jsonb` is a version and the text.
fn put_tags(row: &mut Vec<u8>, job: &NewJob) {
    let mut tags = vec![1];
    // A map of strings to strings has no value that JSON can't say, and a vector takes all that is written.
    serde_json::to_writer(&mut tags, job.tags.pairs()).expect("tags are JSON");
    put(row, &tags);
}

fn as_micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros() - EPOCH_MICROS
}
