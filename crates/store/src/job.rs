//! Reading jobs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use sluice_domain::{
    ApiPath, IdempotencyKey, JobError, JobFilter, JobId, JobResult, JobState, JobView, ModelName, NanoUsd,
    OnUnknown, PageCursor, Priority, QueueName, Tags, TenantName, Usage,
};

use crate::{Store, StoreError};

/// Whether results come with their bodies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bodies {
    /// With the provider's bytes.
    Included,
    /// Without: for lists.
    LeftOut,
}

impl Store {
    /// One job of a tenant; `None` where there is none such.
    pub async fn job(
        &self,
        tenant: &TenantName,
        id: JobId,
        bodies: Bodies,
    ) -> Result<Option<JobView>, StoreError> {
        let mut jobs = self.jobs_by_id(&[id], bodies).await?;
        Ok(jobs.pop().filter(|job| job.tenant == *tenant))
    }

    /// Jobs by id, in the order of the ids; unknown ones are left out. The caller checks whose they are.
    pub async fn jobs_by_id(&self, ids: &[JobId], bodies: Bodies) -> Result<Vec<JobView>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query_as!(
            JobRow,
            r#"-- job_details_read
            SELECT id AS "id!", tenant AS "tenant!", queue AS "queue!", path AS "path!",
                   model AS "model!", state::text AS "state!", hold_reason::text AS hold_reason,
                   priority AS "priority!", tries AS "tries!", crashes AS "crashes!", max_attempts,
                   generation AS "generation!", run_at, created_at AS "created_at!", started_at, finished_at,
                   deadline, hold_on_unknown AS "hold_on_unknown!", idempotency_key,
                   tags AS "tags!: Json<BTreeMap<String, String>>", traceparent, status_code, body,
                   is_truncated AS "is_truncated!", is_assembled AS "is_assembled!", is_late AS "is_late!",
                   is_cached AS "is_cached!", request_id, input_tokens, cached_input_tokens, output_tokens,
                   reasoning_tokens, cost_nano_usd AS "cost_nano_usd!", duration_ms, error_class, error_message,
                   is_retryable AS "is_retryable!"
            FROM sluice.job_details($1, $2)"#,
            &ids,
            bodies == Bodies::Included,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(JobRow::into_view).collect()
    }

    /// The ids of the jobs that a filter means, newest first, after a cursor.
    pub async fn job_ids_matching(
        &self,
        tenant: &TenantName,
        filter: &JobFilter,
        after: Option<PageCursor>,
        limit: u32,
    ) -> Result<Vec<JobId>, StoreError> {
        let tags = (!filter.tags.is_empty()).then(|| Json(filter.tags.pairs()));
        let ids = sqlx::query_scalar!(
            r#"-- job_ids_matching
            SELECT id AS "id!" FROM sluice.matching_jobs($1, $2::text::sluice.job_state, $3, $4, $5, $6, $7, $8, $9, $10) AS m(id)"#,
            tenant.as_str(),
            filter.state.map(JobState::as_str),
            filter.queue.as_ref().map(QueueName::as_str),
            filter.model.as_ref().map(ModelName::as_str),
            filter.error_class.map(sluice_domain::ErrorClass::as_str),
            tags as _,
            filter.created_after,
            filter.created_before,
            after.map(JobId::as_uuid),
            i32::try_from(limit).unwrap_or(i32::MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(JobId::from_uuid).collect())
    }

    /// Which of these jobs have ended and wait for nothing.
    pub async fn jobs_ended_among(&self, ids: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let ended = sqlx::query_scalar!(
            r#"-- job_ended_among
            SELECT i.id AS "id!"
            FROM unnest($1::uuid[]) AS i(id)
            WHERE EXISTS (SELECT FROM sluice.done d WHERE d.job_id = i.id)
              AND NOT EXISTS (SELECT FROM sluice.queued r WHERE r.job_id = i.id)
              AND NOT EXISTS (SELECT FROM sluice.running r WHERE r.job_id = i.id)
              AND NOT EXISTS (SELECT FROM sluice.held h WHERE h.job_id = i.id)
            LIMIT 1000000"#,
            &ids,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ended.into_iter().map(JobId::from_uuid).collect())
    }

    /// Which of these jobs wait for a person.
    pub async fn jobs_held_among(&self, ids: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let held = sqlx::query_scalar!(
            r#"-- job_held_among
            SELECT h.job_id AS "id!" FROM sluice.held h WHERE h.job_id = ANY($1::uuid[]) LIMIT 1000000"#,
            &ids,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(held.into_iter().map(JobId::from_uuid).collect())
    }

    /// The request body of a job, byte for byte as submitted.
    pub async fn job_request_body(
        &self,
        tenant: &TenantName,
        id: JobId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let body = sqlx::query_scalar!(
            "-- job_request_body\nSELECT body FROM sluice.jobs WHERE id = $1 AND tenant = $2",
            id.as_uuid(),
            tenant.as_str(),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(body)
    }
}

#[expect(clippy::struct_excessive_bools, reason = "the columns of a row")]
struct JobRow {
    id: Uuid,
    tenant: String,
    queue: String,
    path: String,
    model: String,
    state: String,
    hold_reason: Option<String>,
    priority: i16,
    tries: i16,
    crashes: i16,
    max_attempts: Option<i16>,
    generation: i32,
    run_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    deadline: Option<DateTime<Utc>>,
    hold_on_unknown: bool,
    idempotency_key: Option<String>,
    tags: Json<BTreeMap<String, String>>,
    traceparent: Option<String>,
    status_code: Option<i16>,
    body: Option<Vec<u8>>,
    is_truncated: bool,
    is_assembled: bool,
    is_late: bool,
    is_cached: bool,
    request_id: Option<String>,
    input_tokens: Option<i32>,
    cached_input_tokens: Option<i32>,
    output_tokens: Option<i32>,
    reasoning_tokens: Option<i32>,
    cost_nano_usd: i64,
    duration_ms: Option<i32>,
    error_class: Option<String>,
    error_message: Option<String>,
    is_retryable: bool,
}

impl JobRow {
    fn into_view(self) -> Result<JobView, StoreError> {
        let unknown = |error: &dyn std::fmt::Display| StoreError::UnknownValue(error.to_string());
        let usage = self.usage();
        let state: JobState = self.state.parse().map_err(|e| unknown(&e))?;
        let result = match self.status_code {
            Some(status_code) if state.is_terminal() => Some(JobResult {
                status_code: status_code as u16,
                body: self.body.unwrap_or_default(),
                is_truncated: self.is_truncated,
                is_assembled: self.is_assembled,
                is_late: self.is_late,
                is_cached: self.is_cached,
                request_id: self.request_id,
                usage,
                cost: NanoUsd(self.cost_nano_usd),
                duration_ms: self.duration_ms.map(i64::from),
            }),
            _ => None,
        };
        let error = match self.error_class {
            Some(class) => Some(JobError {
                class: class.parse().map_err(|e| unknown(&e))?,
                message: self.error_message.unwrap_or_default(),
                is_retryable: self.is_retryable,
            }),
            None => None,
        };
        Ok(JobView {
            id: JobId::from_uuid(self.id),
            tenant: TenantName::from_stored(self.tenant),
            queue: QueueName::from_stored(self.queue),
            path: ApiPath::from_stored(self.path),
            model: ModelName::from_stored(self.model),
            state,
            hold_reason: self
                .hold_reason
                .map(|reason| reason.parse())
                .transpose()
                .map_err(|e| unknown(&e))?,
            priority: Priority::new(i64::from(self.priority)).map_err(|e| unknown(&e))?,
            tries: self.tries as u16,
            crashes: self.crashes as u16,
            max_attempts: self.max_attempts.map(|most| most as u16),
            generation: self.generation as u32,
            run_at: self.run_at,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            deadline: self.deadline,
            on_unknown: if self.hold_on_unknown { OnUnknown::Hold } else { OnUnknown::Retry },
            idempotency_key: self.idempotency_key.map(IdempotencyKey::from_stored),
            tags: Tags::from_stored(self.tags.0),
            result,
            error,
            traceparent: self.traceparent,
        })
    }

    fn usage(&self) -> Option<Usage> {
        let count = |tokens: Option<i32>| tokens.unwrap_or(0).max(0) as u64;
        (self.input_tokens.is_some() || self.output_tokens.is_some()).then(|| Usage {
            input_tokens: count(self.input_tokens),
            cached_input_tokens: count(self.cached_input_tokens),
            output_tokens: count(self.output_tokens),
            reasoning_tokens: count(self.reasoning_tokens),
        })
    }
}
