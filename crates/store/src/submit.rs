//! Submitting jobs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{postgres::PgConnection, types::Json};
use uuid::Uuid;

use sluice_domain::{Conflict, IdempotencyKey, JobId, NewJob, OnUnknown, SubmitOutcome, WebhookUrl};

use crate::{CrashPoint, Store, StoreError, crash_point, submit_copy};

/// The most jobs of one statement. Callers with more send several, each of which counts by itself.
pub const MAX_SUBMIT_BATCH: usize = 4_000;

/// SQLSTATE lock_not_available: another transaction holds one of the keys and has not committed.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// How long a statement waits for a key that another transaction holds.
const KEY_WAIT_MS: i32 = 2_000;
/// The same once a whole batch has waited: a thousand keys in use must not cost a thousand waits.
const SHORT_KEY_WAIT_MS: i32 = 5;

impl Store {
    /// Stores one job.
    pub async fn submit(&self, job: &NewJob) -> Result<SubmitOutcome, StoreError> {
        let outcomes = self.submit_many(std::slice::from_ref(job)).await?;
        outcomes
            .into_iter()
            .next()
            .ok_or_else(|| StoreError::UnknownValue("no answer to a submit".to_owned()))
    }

    /// Stores at most [`MAX_SUBMIT_BATCH`] jobs in one statement: all that are not refused, or on an error none. The
    /// outcomes stand in the order of the jobs. Where another's uncommitted key is in the way, the jobs are stored one
    /// by one, so that only the ones with that key are refused.
    pub async fn submit_many(&self, jobs: &[NewJob]) -> Result<Vec<SubmitOutcome>, StoreError> {
        if submit_copy::is_for(&self.pool, jobs) {
            return submit_copy::submit(&self.pool, jobs).await;
        }
        match self.submit_batch_on_pool(jobs, KEY_WAIT_MS).await {
            Err(error) if error.sql_state().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                let mut outcomes = Vec::with_capacity(jobs.len());
                for job in jobs {
                    let alone = self.submit_batch_on_pool(std::slice::from_ref(job), SHORT_KEY_WAIT_MS);
                    outcomes.push(match alone.await {
                        Ok(outcome) => outcome[0],
                        Err(error) if error.sql_state().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                            SubmitOutcome::Conflict(Conflict::KeyInUse)
                        }
                        Err(error) => return Err(error),
                    });
                }
                Ok(outcomes)
            }
            outcome => outcome,
        }
    }

    /// Stores at most [`MAX_SUBMIT_BATCH`] jobs in one statement, as [`Self::submit_many`] does, but waits only so long
    /// for a key that another transaction holds uncommitted. `None`: a key was in the way, and nothing was stored.
    pub async fn submit_many_if_keys_free(
        &self,
        jobs: &[NewJob],
        key_wait: Duration,
    ) -> Result<Option<Vec<SubmitOutcome>>, StoreError> {
        none_if_key_held(self.submit_batch_on_pool(jobs, as_key_wait_ms(key_wait)).await)
    }

    async fn submit_batch_on_pool(
        &self,
        jobs: &[NewJob],
        key_wait_ms: i32,
    ) -> Result<Vec<SubmitOutcome>, StoreError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut lent = self.pool.lend().await?;
        let submitted = submit_batch(&mut lent, jobs, key_wait_ms).await;
        drop(lent.done());
        submitted.map(|submitted| submitted.outcomes)
    }
}

/// To Postgres, a wait of 0 is one without end.
pub(crate) fn as_key_wait_ms(key_wait: Duration) -> i32 {
    i32::try_from(key_wait.as_millis()).unwrap_or(KEY_WAIT_MS).max(1)
}

/// `None` where another transaction held one of the keys for too long.
pub(crate) fn none_if_key_held<T>(outcomes: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcomes {
        Err(error) if error.sql_state().as_deref() == Some(LOCK_NOT_AVAILABLE) => Ok(None),
        outcomes => outcomes.map(Some),
    }
}

/// What became of the jobs of one statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submitted {
    /// In the order of the jobs.
    pub outcomes: Vec<SubmitOutcome>,
    /// When those that are new were submitted; `None` if none is.
    pub created_at: Option<DateTime<Utc>>,
}

/// The statement itself, for at least one job.
pub(crate) async fn submit_batch(
    connection: &mut PgConnection,
    jobs: &[NewJob],
    key_wait_ms: i32,
) -> Result<Submitted, StoreError> {
    crash_point(CrashPoint::Submitting);
    let has_webhooks = jobs.iter().any(|job| job.webhook.is_some());
    let rows = if has_webhooks {
        submit_batch_with_webhooks(connection, jobs, key_wait_ms).await?
    } else {
        submit_batch_without_webhooks(connection, jobs, key_wait_ms).await?
    };
    crash_point(CrashPoint::Submitted);
    let mut outcomes = vec![None; jobs.len()];
    let mut created_at = None;
    for row in rows {
        created_at = created_at.or(row.created_at);
        let id = JobId::from_uuid(row.job_id);
        let outcome = match row.verdict.as_str() {
            "created" => SubmitOutcome::Created(id),
            "existing" => SubmitOutcome::Existing(id),
            "other_content" => SubmitOutcome::Conflict(Conflict::OtherContent(id)),
            other => return Err(StoreError::UnknownValue(format!("submit verdict {other}"))),
        };
        if let Some(slot) = outcomes.get_mut(row.ordinal as usize - 1) {
            *slot = Some(outcome);
        }
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.ok_or_else(|| StoreError::UnknownValue("a submit without answer".to_owned())));
    Ok(Submitted { outcomes: outcomes.collect::<Result<_, _>>()?, created_at })
}

struct SubmittedRow {
    ordinal: i32,
    job_id: Uuid,
    verdict: String,
    created_at: Option<DateTime<Utc>>,
}

async fn submit_batch_without_webhooks(
    connection: &mut PgConnection,
    jobs: &[NewJob],
    key_wait_ms: i32,
) -> Result<Vec<SubmittedRow>, sqlx::Error> {
    sqlx::query_as!(
        SubmittedRow,
        r#"-- job_submit_batch
            SELECT ordinal AS "ordinal!", job_id AS "job_id!", verdict AS "verdict!", created_at
            FROM sluice.submit_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"#,
        &column(jobs, |job| job.id.as_uuid()),
        &column(jobs, |job| job.tenant.as_str()) as _,
        &column(jobs, |job| job.queue.as_str()) as _,
        &column(jobs, |job| job.model.as_str()) as _,
        &column(jobs, |job| job.path.as_str()) as _,
        &column(jobs, |job| i16::from(job.priority.get())),
        &column(jobs, |job| job.idempotency_key.as_ref().map(IdempotencyKey::as_str)) as _,
        &column(jobs, |job| job.run_at) as _,
        &column(jobs, |job| job.deadline) as _,
        &column(jobs, |job| job.max_attempts.map(|most| most as i16)) as _,
        &column(jobs, |job| job.on_unknown == OnUnknown::Hold),
        &column(jobs, |job| Json(job.tags.pairs())) as _,
        &column(jobs, |job| job.traceparent.as_deref()) as _,
        &column(jobs, |job| job.body.as_slice()) as _,
        key_wait_ms,
    )
    .fetch_all(connection)
    .await
}

/// The same, and beside it who is told when the new ones end: a statement of its own, so that jobs without webhooks pay
/// nothing for it.
async fn submit_batch_with_webhooks(
    connection: &mut PgConnection,
    jobs: &[NewJob],
    key_wait_ms: i32,
) -> Result<Vec<SubmittedRow>, sqlx::Error> {
    sqlx::query_as!(
        SubmittedRow,
        r#"-- job_submit_batch_with_webhooks
            WITH submitted AS MATERIALIZED (
                SELECT s.ordinal, s.job_id, s.verdict, s.created_at
                FROM sluice.submit_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) s
            ), asked AS (
                INSERT INTO sluice.webhooks (job_id, tenant, queue, url)
                SELECT s.job_id, ($2::text[])[s.ordinal], ($3::text[])[s.ordinal], ($16::text[])[s.ordinal]
                FROM submitted s WHERE s.verdict = 'created' AND ($16::text[])[s.ordinal] IS NOT NULL
            )
            SELECT ordinal AS "ordinal!", job_id AS "job_id!", verdict AS "verdict!", created_at FROM submitted"#,
        &column(jobs, |job| job.id.as_uuid()),
        &column(jobs, |job| job.tenant.as_str()) as _,
        &column(jobs, |job| job.queue.as_str()) as _,
        &column(jobs, |job| job.model.as_str()) as _,
        &column(jobs, |job| job.path.as_str()) as _,
        &column(jobs, |job| i16::from(job.priority.get())),
        &column(jobs, |job| job.idempotency_key.as_ref().map(IdempotencyKey::as_str)) as _,
        &column(jobs, |job| job.run_at) as _,
        &column(jobs, |job| job.deadline) as _,
        &column(jobs, |job| job.max_attempts.map(|most| most as i16)) as _,
        &column(jobs, |job| job.on_unknown == OnUnknown::Hold),
        &column(jobs, |job| Json(job.tags.pairs())) as _,
        &column(jobs, |job| job.traceparent.as_deref()) as _,
        &column(jobs, |job| job.body.as_slice()) as _,
        key_wait_ms,
        &column(jobs, |job| job.webhook.as_ref().map(WebhookUrl::as_str)) as _,
    )
    .fetch_all(connection)
    .await
}

/// Stores a job that has neither a key nor a webhook, by the leanest statement; says when it was submitted.
pub(crate) async fn submit_one(
    connection: &mut PgConnection,
    job: &NewJob,
    wakes: bool,
) -> Result<DateTime<Utc>, StoreError> {
    crash_point(CrashPoint::Submitting);
    let created_at = sqlx::query_scalar!(
        r#"-- job_submit_one
            SELECT sluice.submit_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AS "created_at!""#,
        job.id.as_uuid(),
        job.tenant.as_str(),
        job.queue.as_str(),
        job.model.as_str(),
        job.path.as_str(),
        i16::from(job.priority.get()),
        job.run_at,
        job.deadline,
        job.max_attempts.map(|most| most as i16),
        job.on_unknown == OnUnknown::Hold,
        Json(job.tags.pairs()) as _,
        job.traceparent.as_deref(),
        job.body.as_slice(),
        wakes,
    )
    .fetch_one(connection)
    .await?;
    crash_point(CrashPoint::Submitted);
    Ok(created_at)
}

/// One column of a batch, as the statement's array.
fn column<'a, T>(jobs: &'a [NewJob], value: impl Fn(&'a NewJob) -> T) -> Vec<T> {
    jobs.iter().map(value).collect()
}
