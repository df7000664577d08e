//! A job as it is read: by a poll, a list, the command line.

use chrono::{DateTime, Utc};

use crate::{
    ApiPath, ErrorClass, HoldReason, IdempotencyKey, JobId, JobState, ModelName, NanoUsd, OnUnknown,
    Priority, QueueName, Tags, TenantName, Usage,
};

/// A job with everything that is shown of it. Times are the database's.
#[derive(Clone, PartialEq, Debug)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantName,
    /// Its line.
    pub queue: QueueName,
    /// The API path it calls.
    pub path: ApiPath,
    /// The model it asks for.
    pub model: ModelName,
    /// Where it stands.
    pub state: JobState,
    /// Why it is held, if it is.
    pub hold_reason: Option<HoldReason>,
    /// How urgent.
    pub priority: Priority,
    /// Tries spent in this generation.
    pub tries: u16,
    /// Leases lost in this generation.
    pub crashes: u16,
    /// Tries at most; `None` leaves it to the queue's policy.
    pub max_attempts: Option<u16>,
    /// Which life of the job, from 1.
    pub generation: u32,
    /// Not before this time, while it is queued.
    pub run_at: Option<DateTime<Utc>>,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its current or last attempt was leased.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Not after this time.
    pub deadline: Option<DateTime<Utc>>,
    /// What happens when an answer is not known.
    pub on_unknown: OnUnknown,
    /// Its key.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The user's tags.
    pub tags: Tags,
    /// Its result, if there is one; after a cancel perhaps a late one.
    pub result: Option<JobResult>,
    /// Its error, if it failed, was cancelled or is held; of a queued job the last attempt's.
    pub error: Option<JobError>,
    /// W3C `traceparent` of its submit.
    pub traceparent: Option<String>,
}

/// The answer that ended a job.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts about an answer that vary freely")]
pub struct JobResult {
    /// HTTP status.
    pub status_code: u16,
    /// The provider's bytes. Empty where the reader asked for jobs without bodies.
    pub body: Vec<u8>,
    /// Whether `body` was cut because it was larger than we keep.
    pub is_truncated: bool,
    /// Whether the body was put together from a stream.
    pub is_assembled: bool,
    /// Whether it came after its lease had ended.
    pub is_late: bool,
    /// Whether it came from the cache.
    pub is_cached: bool,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: NanoUsd,
    /// How long the call took, in milliseconds.
    pub duration_ms: Option<i64>,
}

/// Why a job failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobError {
    /// The class.
    pub class: ErrorClass,
    /// The text, fit for clients.
    pub message: String,
    /// Whether the same request might succeed when it is replayed.
    pub is_retryable: bool,
}
