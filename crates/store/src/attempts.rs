//! Reading the ledger.

use sluice_domain::{
    AttemptRecord, CallId, IncarnationId, JobId, LeaseId, NanoUsd, Outcome, TenantName, Usage,
};

use crate::{Store, StoreError};

impl Store {
    /// The attempts of a job, oldest first; `None` where there is no such job of this tenant.
    pub async fn attempts(
        &self,
        tenant: &TenantName,
        job: JobId,
    ) -> Result<Option<Vec<AttemptRecord>>, StoreError> {
        if self.job_request_body(tenant, job).await?.is_none() {
            return Ok(None);
        }
        let rows = sqlx::query!(
            r#"-- attempt_list
            SELECT b.lease_id AS "lease_id!", b.generation AS "generation!", b.lease_no AS "lease_no!", b.incarnation_id AS "incarnation_id!",
                   b.begun_at AS "begun_at!",
                   e.ended_at AS "ended_at?", e.outcome::text AS "outcome?", e.error_class AS "error_class?",
                   e.error_message AS "error_message?",
                   coalesce(l.status_code, e.status_code) AS status_code,
                   coalesce(l.call_id, e.call_id) AS call_id, coalesce(l.upstream, e.upstream) AS upstream,
                   coalesce(l.upstream_model, e.upstream_model) AS upstream_model,
                   coalesce(l.answered_model, e.answered_model) AS answered_model,
                   coalesce(l.request_id, e.request_id) AS request_id,
                   coalesce(l.input_tokens, e.input_tokens) AS input_tokens,
                   coalesce(l.cached_input_tokens, e.cached_input_tokens) AS cached_input_tokens,
                   coalesce(l.output_tokens, e.output_tokens) AS output_tokens,
                   coalesce(l.reasoning_tokens, e.reasoning_tokens) AS reasoning_tokens,
                   coalesce(l.cost_nano_usd, e.cost_nano_usd, 0) AS "cost_nano_usd!",
                   coalesce(l.call_duration_ms, e.call_duration_ms) AS call_duration_ms,
                   (coalesce(e.is_late, false) OR l.job_id IS NOT NULL) AS "is_late!"
            FROM sluice.attempts_begun b
            LEFT JOIN sluice.attempts_ended e ON e.job_id = b.job_id AND e.lease_id = b.lease_id
            LEFT JOIN sluice.late_results l ON l.job_id = b.job_id AND l.lease_id = b.lease_id
            WHERE b.job_id = $1
            ORDER BY b.lease_no, b.begun_at LIMIT 10000"#,
            job.as_uuid(),
        )
        .fetch_all(&self.pool)
        .await?;
        let records = rows.into_iter().map(|row| {
            let count = |tokens: Option<i32>| tokens.unwrap_or(0).max(0) as u64;
            Ok(AttemptRecord {
                job_id: job,
                lease_id: LeaseId::from_uuid(row.lease_id),
                generation: row.generation as u32,
                lease_no: row.lease_no as u32,
                incarnation_id: IncarnationId::from_uuid(row.incarnation_id),
                begun_at: row.begun_at,
                ended_at: row.ended_at,
                outcome: row.outcome.map(|word| word.parse::<Outcome>()).transpose().map_err(unknown)?,
                error_class: row.error_class.map(|word| word.parse()).transpose().map_err(unknown)?,
                error_message: row.error_message,
                status_code: row.status_code.map(|status| status as u16),
                call_id: row.call_id.map(CallId::from_uuid),
                upstream: row.upstream,
                upstream_model: row.upstream_model,
                answered_model: row.answered_model,
                request_id: row.request_id,
                usage: row.input_tokens.is_some().then(|| Usage {
                    input_tokens: count(row.input_tokens),
                    cached_input_tokens: count(row.cached_input_tokens),
                    output_tokens: count(row.output_tokens),
                    reasoning_tokens: count(row.reasoning_tokens),
                }),
                cost_usd: NanoUsd(row.cost_nano_usd).as_usd(),
                call_duration_ms: row.call_duration_ms.map(i64::from),
                is_late: row.is_late,
            })
        });
        records.collect::<Result<Vec<_>, StoreError>>().map(Some)
    }
}

fn unknown(error: impl std::fmt::Display) -> StoreError {
    StoreError::UnknownValue(error.to_string())
}
