//! Backlogs of queued jobs, written straight into the tables: ten million of them would take the submit path minutes.

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::Connection;
use tokio::time::Instant;

use super::{Database, payload};

/// Rows of one statement.
const CHUNK: u64 = 250_000;

/// Adds so many queued jobs, as if they were submitted in batches of a thousand, a hundred batches a second: ids are
/// UUIDv7 of this moment, and a thousand jobs share a key. Keys begin now and go on from there, since none may lie in the
/// past, and the last one is waited for. Then statistics are gathered.
pub async fn fill(database: &Database, jobs: u64) -> Result<()> {
    fill_lanes(database, jobs, 1).await
}

/// As [`fill`], in turn for each of so many lanes, each of which has a queue of its own.
pub async fn fill_lanes(database: &Database, jobs: u64, lanes: u32) -> Result<()> {
    let mut connection = database.connect().await?;
    let mut left = jobs;
    let mut last_key = Instant::now();
    while left > 0 {
        let count = left.min(CHUNK);
        let begun = Instant::now();
        let stored = sqlx::query(FILL)
            .bind(count as i64)
            .bind(payload::MODEL)
            .bind(payload::body())
            .bind(i64::from(lanes))
            .execute(&mut connection)
            .await?;
        ensure!(stored.rows_affected() == count, "the fixture stored {} rows", stored.rows_affected());
        left -= count;
        last_key = begun + Duration::from_millis(count / 1_000 * 10);
    }
    connection.close().await?;
    database.analyze().await?;
    tokio::time::sleep_until(last_key).await;
    Ok(())
}

/// The ids' milliseconds end now, so that none lies ahead; 4,096 of them share one.
const FILL: &str = "
    WITH clock AS MATERIALIZED (
        SELECT pg_current_xact_id(), clock_timestamp() AS now
    ), input AS MATERIALIZED (
        SELECT (lpad(to_hex(floor(extract(epoch FROM c.now) * 1000)::bigint - ($1 - 1) / 4096 + i / 4096), 12, '0')
                || '7' || lpad(to_hex(i % 4096), 3, '0') || substr(gen_random_uuid()::text, 20))::uuid AS id,
               c.now + (i / 1000) * interval '10 ms' AS key,
               CASE WHEN $4 = 1 THEN 'default' ELSE 'q' || i % $4 END AS queue
        FROM clock c, generate_series(0, $1 - 1) AS i
    ), stored AS (
        INSERT INTO sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, hold_on_unknown, tags,
                                 body)
        SELECT id, 'default', queue, $2, NULL, sluice.lane_id('default', queue, $2), 3, key, false, '{}', $3
        FROM input
    )
    INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
                              hold_on_unknown)
    SELECT sluice.lane_id('default', queue, $2), 3, 1, key, id, 1, 0, 0, 0, 0, false
    FROM input";
