//! Reads the history of a test from where it was written: the database and the simulator's ledger.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use sluice_domain::{IncarnationId, JobId, LeaseId};
use sluice_simulator::{Ended, read_ledger};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::history::{Attempt, Call, CallEnd, LateAnswer, Place, Standing};

/// Where every job stands: one row for each place, so that a job in two places shows.
pub async fn places(pool: &PgPool) -> Result<Vec<Place>> {
    let rows = sqlx::query(
        "SELECT job_id, generation, 'queued', NULL::uuid, false FROM sluice.ready
         UNION ALL SELECT job_id, generation, 'running', NULL, false FROM sluice.running
         UNION ALL SELECT job_id, generation, 'held', NULL, false FROM sluice.held
         UNION ALL SELECT job_id, generation, state::text, lease_id, is_late FROM sluice.done",
    )
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Place {
                job_id: JobId::from_uuid(row.try_get(0)?),
                generation: row.try_get::<i32, _>(1)? as u32,
                state: row.try_get::<String, _>(2)?.parse()?,
                ended_by: row.try_get::<Option<Uuid>, _>(3)?.map(LeaseId::from_uuid),
                is_late: row.try_get(4)?,
            })
        })
        .collect()
}

/// The ends that stand now.
pub async fn ends(pool: &PgPool) -> Result<Vec<Place>> {
    Ok(places(pool).await?.into_iter().filter(|place| place.state.is_terminal()).collect())
}

/// The whole ledger; an attempt that ended twice is listed twice.
pub async fn attempts(pool: &PgPool) -> Result<Vec<Attempt>> {
    let rows = sqlx::query(
        "SELECT b.job_id, b.lease_id, coalesce(b.lease_no, 1) AS lease_no, b.incarnation_id, b.begun_at, e.generation,
                e.outcome::text, e.ended_at, e.call_id
         FROM (SELECT unnest(l.job_ids) AS job_id, unnest(l.lease_ids) AS lease_id, unnest(l.lease_nos) AS lease_no,
                      l.incarnation_id, l.begun_at
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
                incarnation: IncarnationId::from_uuid(row.try_get(3)?),
                begun_at: row.try_get(4)?,
                generation: row.try_get::<Option<i32>, _>(5)?.map(|generation| generation as u32),
                outcome: row.try_get::<Option<String>, _>(6)?.map(|word| word.parse()).transpose()?,
                ended_at: row.try_get(7)?,
                call_id: row.try_get::<Option<Uuid>, _>(8)?.map(|id| id.to_string()),
            })
        })
        .collect()
}

/// All answers that came late.
pub async fn late_answers(pool: &PgPool) -> Result<Vec<LateAnswer>> {
    let rows =
        sqlx::query("SELECT job_id, lease_id, call_id FROM sluice.late_results").fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            Ok(LateAnswer {
                job_id: JobId::from_uuid(row.try_get(0)?),
                lease_id: LeaseId::from_uuid(row.try_get(1)?),
                call_id: row.try_get::<Option<Uuid>, _>(2)?.map(|id| id.to_string()),
            })
        })
        .collect()
}

/// All that a server holds, as a fail-over may lose it.
pub async fn standing(pool: &PgPool) -> Result<Standing> {
    let keys: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT job_id, key FROM sluice.idempotency_keys").fetch_all(pool).await?;
    Ok(Standing {
        keys: keys.into_iter().map(|(job, key)| (JobId::from_uuid(job), key)).collect(),
        places: places(pool).await?,
        attempts: attempts(pool).await?,
        late: late_answers(pool).await?,
    })
}

/// All lives of the worker of that name.
pub async fn incarnations(pool: &PgPool, worker: &str) -> Result<BTreeSet<IncarnationId>> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM sluice.incarnations WHERE worker = $1")
        .bind(worker)
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(IncarnationId::from_uuid).collect())
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
            arrived_at: record.arrival.arrived_at,
            end: match (record.ended(), record.status()) {
                (Ended::Answered, Some(200..=299)) => CallEnd::AnsweredWell,
                (Ended::Answered | Ended::Error, _) => CallEnd::AnsweredBadly,
                _ => CallEnd::Cut,
            },
        })
        .collect())
}
