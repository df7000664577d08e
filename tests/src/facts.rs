//! Reads the history of a test from where it was written: the database and the simulator's ledger.

use std::path::Path;

use anyhow::{Context, Result};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use sluice_domain::{JobId, LeaseId};
use sluice_simulator::{Ended, read_ledger};

use crate::history::{Attempt, Call, CallEnd, Place};

/// Where every job stands: one row for each place, so that a job in two places shows.
pub async fn places(pool: &PgPool) -> Result<Vec<Place>> {
    let rows = sqlx::query(
        "SELECT job_id, generation, 'queued' FROM sluice.ready
         UNION ALL SELECT job_id, generation, 'running' FROM sluice.running
         UNION ALL SELECT job_id, generation, 'held' FROM sluice.held
         UNION ALL SELECT job_id, generation, state::text FROM sluice.done",
    )
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Place {
                job_id: JobId::from_uuid(row.try_get(0)?),
                generation: row.try_get::<i32, _>(1)? as u32,
                state: row.try_get::<String, _>(2)?.parse()?,
            })
        })
        .collect()
}

/// The whole ledger.
pub async fn attempts(pool: &PgPool) -> Result<Vec<Attempt>> {
    let rows = sqlx::query(
        "SELECT b.job_id, b.lease_id, coalesce(b.lease_no, 1) AS lease_no, e.outcome::text, e.call_id
         FROM (SELECT unnest(l.job_ids) AS job_id, unnest(l.lease_ids) AS lease_id, unnest(l.lease_nos) AS lease_no,
                      l.begun_at
               FROM sluice.ledger_begun l) b
         LEFT JOIN sluice.attempts_ended e ON e.job_id = b.job_id AND e.lease_id = b.lease_id
         ORDER BY b.begun_at",
    )
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Attempt {
                job_id: JobId::from_uuid(row.try_get(0)?),
                lease_id: LeaseId::from_uuid(row.try_get(1)?),
                lease_no: row.try_get::<i32, _>(2)? as u32,
                outcome: row.try_get::<Option<String>, _>(3)?.map(|word| word.parse()).transpose()?,
                call_id: row.try_get::<Option<Uuid>, _>(4)?.map(|id| id.to_string()),
            })
        })
        .collect()
}

/// The calls on the simulator's ledger, in order of arrival. The key is the body's `user`.
pub fn calls(ledger: &Path) -> Result<Vec<Call>> {
    let mut records = read_ledger(ledger).context("read the simulator's ledger")?;
    records.sort_by_key(|record| record.arrival.call);
    Ok(records
        .into_iter()
        .map(|record| Call {
            key: record.arrival.custom_key.clone().unwrap_or_default(),
            call_id: record.arrival.call_id.clone(),
            end: match (record.ended(), record.status()) {
                (Ended::Answered, Some(200..=299)) => CallEnd::AnsweredWell,
                (Ended::Answered | Ended::Error, _) => CallEnd::AnsweredBadly,
                _ => CallEnd::Cut,
            },
        })
        .collect())
}
