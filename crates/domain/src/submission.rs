//! A job as it is submitted, checked.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ApiPath, IdempotencyKey, JobId, JobState, JobView, ModelName, Priority, QueueName, Tags, TenantName,
    WebhookUrl,
};

/// The largest body of one job, in bytes (8 MiB).
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// The tries of a job that does not say, where its queue does not say either.
pub const DEFAULT_MAX_ATTEMPTS: u16 = 3;
/// The most tries that a job may ask for.
pub const MAX_MAX_ATTEMPTS: u16 = 100;

/// What happens to a job whose call was sent and whose answer is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// Call again: the first call may be paid twice, and the ledger says so.
    #[default]
    Retry,
    /// Hold it until a person decides: nothing is ever paid twice.
    Hold,
}

/// One API request to be made. All fields have been checked; the id is chosen here so that a client whose
/// acknowledgement was lost can ask for the job by its id.
#[derive(Clone, PartialEq, Debug)]
pub struct NewJob {
    /// The id it will have.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantName,
    /// The line it stands in.
    pub queue: QueueName,
    /// The API path to call.
    pub path: ApiPath,
    /// The model it asks for.
    pub model: ModelName,
    /// How urgent.
    pub priority: Priority,
    /// Makes a repeated submit answer with the first job.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Not before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// Not after this time.
    pub deadline: Option<DateTime<Utc>>,
    /// Tries at most; `None` leaves it to the queue's policy.
    pub max_attempts: Option<u16>,
    /// What to do when an answer is not known.
    pub on_unknown: OnUnknown,
    /// The user's tags.
    pub tags: Tags,
    /// Who is told when it ends. The id of such a job is one of [`JobId::generate_for_webhook`].
    pub webhook: Option<WebhookUrl>,
    /// W3C `traceparent` of the submit, for the trace that goes on in the worker.
    pub traceparent: Option<String>,
    /// The request's JSON, byte for byte as submitted.
    pub body: Vec<u8>,
}

impl NewJob {
    /// The job as a read shows it right after it was stored at `created_at`, by the database's clock. Times are whole
    /// microseconds, as they are stored.
    pub fn stored_at(self, created_at: DateTime<Utc>) -> JobView {
        let whole =
            |time: DateTime<Utc>| DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time);
        JobView {
            id: self.id,
            tenant: self.tenant,
            queue: self.queue,
            path: self.path,
            model: self.model,
            state: JobState::Queued,
            hold_reason: None,
            priority: self.priority,
            tries: 0,
            crashes: 0,
            max_attempts: self.max_attempts,
            generation: 1,
            run_at: Some(self.run_at.map_or(created_at, |run_at| whole(run_at).max(created_at))),
            created_at,
            started_at: None,
            finished_at: None,
            deadline: self.deadline.map(whole),
            on_unknown: self.on_unknown,
            idempotency_key: self.idempotency_key,
            tags: self.tags,
            result: None,
            error: None,
            traceparent: self.traceparent,
        }
    }
}

/// What became of one submitted job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitOutcome {
    /// It is a new job.
    Created(JobId),
    /// Its key was seen before with the same content: this is the job.
    Existing(JobId),
    /// It was refused and nothing was stored of it.
    Conflict(Conflict),
}

/// Why a keyed submit was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// The key was used with another content, by this job (422).
    OtherContent(JobId),
    /// Another submit with this key has not committed yet (409, try again).
    KeyInUse,
}
