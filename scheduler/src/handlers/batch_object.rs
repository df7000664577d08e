//! A batch as clients see it, and how a batch's id is read.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sluice_domain::{Batch, BatchId, FileId};
use utoipa::ToSchema;

use crate::server::{ApiError, App, NameInPath, READ_PATIENCE, asked};

/// A batch. Times are seconds since 1970.
#[derive(Serialize, ToSchema)]
#[schema(as = Batch)]
pub(crate) struct BatchObject {
    /// Its id.
    #[schema(value_type = String, example = "batch_0199a1b2c3d47e5f8a9b0c1d2e3f4a5b")]
    id: BatchId,
    /// Always `batch`.
    object: &'static str,
    /// The path that its lines call.
    #[schema(example = "/v1/chat/completions")]
    endpoint: String,
    /// The model that all of its lines ask for.
    model: Option<String>,
    /// What is wrong with its file: a list of `code`, `message`, `param` and `line`.
    #[schema(value_type = Option<Object>)]
    errors: Option<Value>,
    /// Its lines.
    #[schema(value_type = String)]
    input_file_id: FileId,
    /// How long it may take.
    #[schema(example = "24h")]
    completion_window: String,
    /// `validating`, `failed`, `in_progress`, `finalizing`, `completed`, `expired`, `cancelling` or `cancelled`.
    #[schema(example = "in_progress")]
    status: &'static str,
    /// The file of results.
    #[schema(value_type = Option<String>)]
    output_file_id: Option<FileId>,
    /// The file of failures.
    #[schema(value_type = Option<String>)]
    error_file_id: Option<FileId>,
    /// When it was submitted.
    created_at: i64,
    /// When its lines were jobs.
    in_progress_at: Option<i64>,
    /// When its window ends.
    expires_at: i64,
    /// When all of its lines had ended.
    finalizing_at: Option<i64>,
    /// When it was completed.
    completed_at: Option<i64>,
    /// When its file turned out not to be usable.
    failed_at: Option<i64>,
    /// When it ended because its window was over.
    expired_at: Option<i64>,
    /// When somebody cancelled it.
    cancelling_at: Option<i64>,
    /// When it was cancelled.
    cancelled_at: Option<i64>,
    /// Its lines: `total`, `completed`, `failed`.
    #[schema(value_type = Object)]
    request_counts: sluice_domain::BatchCounts,
    /// Tokens of all lines, once it has ended.
    #[schema(value_type = Option<Object>)]
    usage: Option<Value>,
    /// The pairs that it was submitted with.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

impl From<Batch> for BatchObject {
    fn from(batch: Batch) -> Self {
        let times = batch.times;
        let seconds = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp());
        Self {
            id: batch.id,
            object: "batch",
            endpoint: batch.endpoint,
            model: batch.model,
            errors: batch.errors,
            input_file_id: batch.input_file,
            completion_window: batch.completion_window,
            status: batch.status.as_str(),
            output_file_id: batch.output_file,
            error_file_id: batch.error_file,
            created_at: times.created_at.timestamp(),
            in_progress_at: seconds(times.in_progress_at),
            expires_at: times.expires_at.timestamp(),
            finalizing_at: seconds(times.finalizing_at),
            completed_at: seconds(times.completed_at),
            failed_at: seconds(times.failed_at),
            expired_at: seconds(times.expired_at),
            cancelling_at: seconds(times.cancelling_at),
            cancelled_at: seconds(times.cancelled_at),
            request_counts: batch.counts,
            usage: batch.usage,
            metadata: batch.metadata,
        }
    }
}

impl BatchObject {
    pub(super) fn id(&self) -> String {
        self.id.to_string()
    }
}

/// The id in a path.
pub(super) fn id_of(name: &NameInPath) -> Result<BatchId, ApiError> {
    name.text().parse().map_err(|_| not_found(name.text()))
}

/// A batch of our tenant, or 404.
pub(super) async fn batch(app: &App, id: BatchId) -> Result<Batch, ApiError> {
    let batch = asked(READ_PATIENCE, app.store.batch(&app.tenant, id)).await?;
    batch.ok_or_else(|| not_found(&id.to_string()))
}

pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::new(http::StatusCode::NOT_FOUND, "batch_not_found", format!("there is no batch {id:?}"))
}
