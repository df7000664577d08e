//! Batches, and who moves them on.
//!
//! Whoever moves a batch on has claimed it: each write names the claim, and is refused where it is over. A claim is renewed
//! while the work goes on, and ends by itself where its scheduler dies.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use sluice_domain::{
    Batch, BatchCounts, BatchId, BatchStatus, BatchTimes, FileId, Priority, QueueName, TenantName,
};

use crate::{Store, StoreError};

/// A batch that is submitted.
#[derive(Clone, PartialEq, Debug)]
pub struct NewBatch {
    /// Its id.
    pub id: BatchId,
    /// Whose it is.
    pub tenant: TenantName,
    /// The path that its lines call.
    pub endpoint: String,
    /// Its input.
    pub input_file: FileId,
    /// The window, as it was asked for,
    pub completion_window: String,
    /// and what that means.
    pub window: Duration,
    /// The user's pairs.
    pub metadata: Option<Value>,
    /// The line of its jobs.
    pub queue: QueueName,
    /// How urgent they are.
    pub priority: Priority,
    /// How long its files are kept, in seconds.
    pub output_expires_s: Option<u32>,
}

/// Which batches a list shows, the newest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchPage {
    /// After this one.
    pub after: Option<BatchId>,
    /// So many at most.
    pub limit: u32,
}

/// A file of a batch, all of whose chunks are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrittenFile {
    /// Its id.
    pub id: FileId,
    /// Its size.
    pub bytes: u64,
    /// How many chunks it has.
    pub chunks: u32,
}

/// How a batch ends.
#[derive(Clone, PartialEq, Debug)]
pub struct BatchEnd {
    /// `completed`, `expired` or `cancelled`.
    pub status: BatchStatus,
    /// Its lines, as they stand in its files.
    pub counts: BatchCounts,
    /// Tokens of all its lines.
    pub usage: Value,
    /// The results.
    pub output: Option<WrittenFile>,
    /// The failures.
    pub errors: Option<WrittenFile>,
}

impl Store {
    /// Stores a batch.
    pub async fn batch_submit(&self, batch: &NewBatch) -> Result<(), StoreError> {
        sqlx::query!(
            "-- batch_submit
            INSERT INTO sluice.batches (id, tenant, endpoint, input_file_id, completion_window, metadata, queue, priority,
                                        output_expires_s, created_at, expires_at, look_at)
            SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, now.at, now.at + make_interval(secs => $10), now.at
            FROM (SELECT clock_timestamp() AS at) now",
            batch.id.as_uuid(),
            batch.tenant.as_str(),
            batch.endpoint,
            batch.input_file.as_uuid(),
            batch.completion_window,
            batch.metadata.clone(),
            batch.queue.as_str(),
            i16::from(batch.priority.get()),
            batch.output_expires_s.map(|seconds| seconds as i32),
            batch.window.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// One batch of a tenant.
    pub async fn batch(&self, tenant: &TenantName, id: BatchId) -> Result<Option<Batch>, StoreError> {
        let mut batches = self.batches_by_id(&[id]).await?;
        Ok(batches.pop().filter(|batch| batch.tenant == *tenant))
    }

    /// Batches by id, in the order of the ids; unknown ones are left out. The caller checks whose they are.
    pub async fn batches_by_id(&self, ids: &[BatchId]) -> Result<Vec<Batch>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query_as!(
            BatchRow,
            r#"-- batch_read
            SELECT b.id AS "id!", b.tenant AS "tenant!", b.endpoint AS "endpoint!", b.input_file_id AS "input_file_id!",
                   b.completion_window AS "completion_window!", b.status AS "status!", b.metadata, b.queue AS "queue!",
                   b.priority AS "priority!", b.errors, b.model, b.total AS "total!", b.completed AS "completed!",
                   b.failed AS "failed!", b.usage, b.output_file_id, b.error_file_id, b.output_expires_s,
                   b.created_at AS "created_at!", b.expires_at AS "expires_at!", b.in_progress_at, b.finalizing_at,
                   b.completed_at, b.failed_at, b.expired_at, b.cancelling_at, b.cancelled_at
            FROM unnest($1::uuid[]) WITH ORDINALITY AS i(id, ordinal)
            JOIN sluice.batches b ON b.id = i.id
            ORDER BY i.ordinal LIMIT 1000"#,
            &ids,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(BatchRow::into_batch).collect()
    }

    /// The ids of a page of a tenant's batches.
    pub async fn batch_ids(&self, tenant: &TenantName, page: BatchPage) -> Result<Vec<BatchId>, StoreError> {
        let ids = sqlx::query_scalar!(
            "-- batch_list
            SELECT id FROM sluice.batches WHERE tenant = $1 AND ($2::uuid IS NULL OR id < $2)
            ORDER BY id DESC LIMIT $3",
            tenant.as_str(),
            page.after.map(BatchId::as_uuid),
            i64::from(page.limit),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(BatchId::from_uuid).collect())
    }

    /// Begins to cancel a batch, if it can be; says whether it could.
    pub async fn batch_cancel_if_open(&self, tenant: &TenantName, id: BatchId) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- batch_cancel_if_open
            UPDATE sluice.batches
            SET status = 'cancelling', cancelling_at = clock_timestamp(), look_at = clock_timestamp()
            WHERE id = $1 AND tenant = $2 AND status IN ('validating', 'in_progress')",
            id.as_uuid(),
            tenant.as_str(),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Claims the batch that has waited longest to be moved on, for `window`.
    pub async fn batch_claim(&self, claim: Uuid, window: Duration) -> Result<Option<BatchId>, StoreError> {
        let id = sqlx::query_scalar!(
            "-- batch_claim_next
            UPDATE sluice.batches
            SET claimed_by = $1, claimed_until = clock_timestamp() + make_interval(secs => $2)
            WHERE id = (
                SELECT b.id FROM sluice.batches b
                WHERE b.status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
                  AND b.look_at <= clock_timestamp()
                  AND (b.claimed_until IS NULL OR b.claimed_until < clock_timestamp())
                ORDER BY b.look_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id",
            claim,
            window.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(id.map(BatchId::from_uuid))
    }

    /// Renews a claim; says how the batch stands, or `None` where the claim is over.
    pub async fn batch_renew_claim(
        &self,
        id: BatchId,
        claim: Uuid,
        window: Duration,
    ) -> Result<Option<BatchStatus>, StoreError> {
        let status = sqlx::query_scalar!(
            "-- batch_renew_if_claimed
            UPDATE sluice.batches SET claimed_until = clock_timestamp() + make_interval(secs => $3)
            WHERE id = $1 AND claimed_by = $2
            RETURNING status",
            id.as_uuid(),
            claim,
            window.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?;
        status.map(|word| word.parse().map_err(unknown)).transpose()
    }

    /// Lets go of a batch, which is to be looked at again after `rest`.
    pub async fn batch_release(&self, id: BatchId, claim: Uuid, rest: Duration) -> Result<(), StoreError> {
        sqlx::query!(
            "-- batch_release_if_claimed
            UPDATE sluice.batches
            SET claimed_by = NULL, claimed_until = NULL,
                -- One that was cancelled meanwhile is looked at sooner.
                look_at = CASE WHEN status = 'cancelling' THEN clock_timestamp() + least(make_interval(secs => $3), interval '200ms')
                               ELSE clock_timestamp() + make_interval(secs => $3) END
            WHERE id = $1 AND claimed_by = $2",
            id.as_uuid(),
            claim,
            rest.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends a batch whose file can't be used; says whether it was done.
    pub async fn batch_fail_if_validating(
        &self,
        id: BatchId,
        claim: Uuid,
        errors: &Value,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- batch_fail_if_validating
            UPDATE sluice.batches
            SET status = 'failed', failed_at = clock_timestamp(), errors = $3, claimed_by = NULL, claimed_until = NULL
            WHERE id = $1 AND claimed_by = $2 AND status = 'validating'",
            id.as_uuid(),
            claim,
            errors,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// All lines of a batch are jobs now; says whether it was still validating.
    pub async fn batch_begin_if_validating(
        &self,
        id: BatchId,
        claim: Uuid,
        total: u32,
        model: Option<&str>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- batch_begin_if_validating
            UPDATE sluice.batches
            SET total = $3, model = $4, status = CASE status WHEN 'validating' THEN 'in_progress' ELSE status END,
                in_progress_at = CASE status WHEN 'validating' THEN clock_timestamp() ELSE in_progress_at END
            WHERE id = $1 AND claimed_by = $2 AND status IN ('validating', 'cancelling')",
            id.as_uuid(),
            claim,
            total as i32,
            model,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// All jobs of a batch have ended, and its files are to be written.
    pub async fn batch_finalize_if_in_progress(&self, id: BatchId, claim: Uuid) -> Result<(), StoreError> {
        sqlx::query!(
            "-- batch_finalize_if_in_progress
            UPDATE sluice.batches SET status = 'finalizing', finalizing_at = clock_timestamp()
            WHERE id = $1 AND claimed_by = $2 AND status = 'in_progress'",
            id.as_uuid(),
            claim,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends a batch, and shows its files; says whether the claim still held.
    pub async fn batch_finish_if_claimed(
        &self,
        id: BatchId,
        claim: Uuid,
        end: &BatchEnd,
    ) -> Result<bool, StoreError> {
        let files: Vec<_> = [end.output, end.errors].into_iter().flatten().collect();
        let file_ids: Vec<_> = files.iter().map(|file| file.id.as_uuid()).collect();
        let sizes: Vec<_> = files.iter().map(|file| file.bytes as i64).collect();
        let chunks: Vec<_> = files.iter().map(|file| file.chunks as i32).collect();
        let done = sqlx::query_scalar!(
            r#"-- batch_finish_if_claimed
            WITH ended AS (
                UPDATE sluice.batches
                SET status = $3, total = $4, completed = $5, failed = $6, usage = $7, output_file_id = $8,
                    error_file_id = $9, claimed_by = NULL, claimed_until = NULL,
                    completed_at = CASE $3 WHEN 'completed' THEN clock_timestamp() END,
                    expired_at = CASE $3 WHEN 'expired' THEN clock_timestamp() END,
                    cancelled_at = CASE $3 WHEN 'cancelled' THEN clock_timestamp() END
                WHERE id = $1 AND claimed_by = $2
                  AND status IN ('in_progress', 'finalizing', 'cancelling')
                RETURNING id
            ), shown AS (
                UPDATE sluice.files f SET bytes = w.bytes, chunks = w.chunks
                FROM unnest($10::uuid[], $11::bigint[], $12::integer[]) AS w(id, bytes, chunks), ended
                WHERE f.id = w.id
            )
            SELECT count(*) AS "count!" FROM ended"#,
            id.as_uuid(),
            claim,
            end.status.as_str(),
            end.counts.total as i32,
            end.counts.completed as i32,
            end.counts.failed as i32,
            end.usage,
            end.output.map(|file| file.id.as_uuid()),
            end.errors.map(|file| file.id.as_uuid()),
            &file_ids,
            &sizes,
            &chunks,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(done > 0)
    }
}

fn unknown(error: impl std::fmt::Display) -> StoreError {
    StoreError::UnknownValue(error.to_string())
}

struct BatchRow {
    id: Uuid,
    tenant: String,
    endpoint: String,
    input_file_id: Uuid,
    completion_window: String,
    status: String,
    metadata: Option<Value>,
    queue: String,
    priority: i16,
    errors: Option<Value>,
    model: Option<String>,
    total: i32,
    completed: i32,
    failed: i32,
    usage: Option<Value>,
    output_file_id: Option<Uuid>,
    error_file_id: Option<Uuid>,
    output_expires_s: Option<i32>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    in_progress_at: Option<DateTime<Utc>>,
    finalizing_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    expired_at: Option<DateTime<Utc>>,
    cancelling_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
}

impl BatchRow {
    fn into_batch(self) -> Result<Batch, StoreError> {
        Ok(Batch {
            id: BatchId::from_uuid(self.id),
            tenant: TenantName::from_stored(self.tenant),
            endpoint: self.endpoint,
            input_file: FileId::from_uuid(self.input_file_id),
            completion_window: self.completion_window,
            status: self.status.parse().map_err(unknown)?,
            metadata: self.metadata,
            queue: self.queue,
            priority: self.priority as u8,
            errors: self.errors,
            model: self.model,
            counts: BatchCounts {
                total: self.total as u32,
                completed: self.completed as u32,
                failed: self.failed as u32,
            },
            usage: self.usage,
            output_file: self.output_file_id.map(FileId::from_uuid),
            error_file: self.error_file_id.map(FileId::from_uuid),
            output_expires_s: self.output_expires_s.map(|seconds| seconds as u32),
            times: BatchTimes {
                created_at: self.created_at,
                expires_at: self.expires_at,
                in_progress_at: self.in_progress_at,
                finalizing_at: self.finalizing_at,
                completed_at: self.completed_at,
                failed_at: self.failed_at,
                expired_at: self.expired_at,
                cancelling_at: self.cancelling_at,
                cancelled_at: self.cancelled_at,
            },
        })
    }
}
