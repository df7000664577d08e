//! Attempts: what a lease hands to a worker, and what the worker writes back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ApiPath, CallId, ErrorClass, HoldReason, IncarnationId, JobId, LaneId, LeaseId, ModelName, NanoUsd,
    OnUnknown, Outcome, Priority, QueueName, TenantName,
};

/// A job with its lease, as the lease statement returns it.
#[derive(Clone, PartialEq, Debug)]
pub struct LeasedJob {
    /// The job.
    pub job_id: JobId,
    /// The right to work it; the fence of every write about this attempt.
    pub lease_id: LeaseId,
    /// The lane it came from.
    pub lane_id: LaneId,
    /// Which life of the job this is, from 1.
    pub generation: u32,
    /// Which lease of the job this is, from 1, over all generations.
    pub lease_no: u32,
    /// Tries spent before this attempt, in this generation.
    pub tries: u16,
    /// Leases lost before this attempt, in this generation.
    pub crashes: u16,
    /// Answers before this attempt that spent no try (401, 402, 429, 503, 529, not sent), in this generation.
    pub refusals: u16,
    /// Tries at most; `None` leaves it to the queue's policy.
    pub max_attempts: Option<u16>,
    /// What to do when the answer is not known.
    pub on_unknown: OnUnknown,
    /// How urgent.
    pub priority: Priority,
    /// Whose it is.
    pub tenant: TenantName,
    /// The line it stood in.
    pub queue: QueueName,
    /// The model it asks for.
    pub model: ModelName,
    /// The API path to call.
    pub path: ApiPath,
    /// Time left until its deadline when it was leased, by the database clock.
    pub deadline_in: Option<Duration>,
    /// How long it could have run but waited, by the database clock.
    pub waited: Duration,
    /// W3C `traceparent` of the submit.
    pub traceparent: Option<String>,
    /// The request's JSON, byte for byte as submitted.
    pub body: Vec<u8>,
}

/// Tokens that a provider says it used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the prompt that came from the provider's context cache.
    pub cached_input_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Tokens of the answer that were reasoning.
    pub reasoning_tokens: u64,
}

/// Which upstream a call went to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpstreamUse {
    /// The call.
    pub call_id: CallId,
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// The model name that was asked for there.
    pub model: String,
    /// The model name that the answer gives, where it gives one.
    pub answered_model: Option<String>,
    /// The provider's id of the request (`x-request-id` or the body's `id`), where it gives one.
    pub request_id: Option<String>,
}

/// An answer as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status_code: u16,
    /// The bytes after decompression, cut where they were larger than we keep.
    pub body: Vec<u8>,
    /// Whether `body` was cut.
    pub is_truncated: bool,
    /// Whether Sluice chose to stream and put the body together from the chunks.
    pub is_assembled: bool,
}

/// What a job becomes when its attempt is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It ends with the answer as its result.
    Succeed,
    /// It ends with an error; the answer, if any, is kept beside it.
    Fail {
        /// Whether the same request might succeed when it is replayed.
        is_retryable: bool,
    },
    /// It goes back to its lane, not before `delay` from now by the database clock.
    Requeue {
        /// How long it rests.
        delay: Duration,
        /// Whether this attempt spent a try.
        spends_try: bool,
        /// Whether this attempt was refused by the upstream (429 and its kin), which has a bound of its own.
        is_refusal: bool,
    },
    /// It waits for a person.
    Hold(HoldReason),
}

/// All that is written about an attempt in the one statement that settles it.
#[derive(Clone, PartialEq, Debug)]
pub struct Settlement {
    /// The job.
    pub job_id: JobId,
    /// The fence: refused unless the job is running under exactly this lease.
    pub lease_id: LeaseId,
    /// Who settles.
    pub incarnation_id: IncarnationId,
    /// The job's generation at the lease.
    pub generation: u32,
    /// The lease's number.
    pub lease_no: u32,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// What the job becomes.
    pub decision: Decision,
    /// Class and text of the error, for anything but a success. The text is fit for clients: no secret, no prompt.
    pub error: Option<(ErrorClass, String)>,
    /// The answer, where there was one worth keeping.
    pub answer: Option<StoredAnswer>,
    /// Tokens, as the provider says.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: NanoUsd,
    /// The call, where one was made or tried.
    pub call: Option<UpstreamUse>,
    /// From the first byte sent to the end of the answer, by the worker's monotonic clock.
    pub call_duration: Option<Duration>,
    /// From the first byte sent to the first byte of the answer.
    pub time_to_first_byte: Option<Duration>,
}

/// What the database said to a settlement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettleVerdict {
    /// Written.
    Settled,
    /// The job was cancelled while it ran; its slot is free now, and nothing else came of the settlement.
    LetGo,
    /// The same lease was settled before; a lost acknowledgement was repeated.
    AlreadySettled,
    /// The lease was not the job's current one any more, but the answer ended the job: it was still waiting and had
    /// not been leased since.
    LateAccepted,
    /// The lease was not the job's current one any more; the answer is kept as a late result and changes nothing.
    LateKept,
    /// The lease was not the job's current one any more and there was nothing to keep.
    Stale,
}

/// One attempt as the ledger shows it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AttemptRecord {
    /// The job.
    pub job_id: JobId,
    /// The lease.
    pub lease_id: LeaseId,
    /// Which life of the job.
    pub generation: u32,
    /// Which lease of the job, from 1.
    pub lease_no: u32,
    /// Who held the lease.
    pub incarnation_id: IncarnationId,
    /// When it was leased.
    pub begun_at: DateTime<Utc>,
    /// When it ended, if it has.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// Class of its error.
    pub error_class: Option<ErrorClass>,
    /// Text of its error.
    pub error_message: Option<String>,
    /// HTTP status of the answer.
    pub status_code: Option<u16>,
    /// The call, if one was made or tried.
    pub call_id: Option<CallId>,
    /// The upstream.
    pub upstream: Option<String>,
    /// The model that the upstream was asked for.
    pub upstream_model: Option<String>,
    /// The model that answered.
    pub answered_model: Option<String>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// What it cost, in USD.
    pub cost_usd: f64,
    /// How long the call took, in milliseconds.
    pub call_duration_ms: Option<i64>,
    /// Whether its answer came after its lease had ended.
    pub is_late: bool,
}
