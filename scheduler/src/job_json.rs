//! The JSON of a job, the same over REST and on the command line.
//!
//! A provider's JSON is spliced in unchanged, never parsed into values and written again: numbers, the order of names
//! and odd escapes stay as they were. What is not JSON in UTF-8 is base64.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sluice_domain::{AttemptRecord, JobResult, JobView};
use utoipa::ToSchema;

use crate::{DeferredBy, Gates};

/// How the body of a result is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyForm {
    /// As the provider wrote it.
    Verbatim,
    /// On one line: line breaks between tokens become spaces.
    OneLine,
    /// Not at all: the reader asked for jobs without bodies.
    LeftOut,
}

/// A job with everything that is shown of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobObject<'a> {
    /// UUIDv7.
    #[schema(value_type = uuid::Uuid)]
    id: String,
    /// Always `job`.
    #[schema(example = "job")]
    object: &'static str,
    /// Whose it is.
    tenant: &'a str,
    /// Its line.
    queue: &'a str,
    /// The API path it calls.
    #[schema(example = "/v1/chat/completions")]
    path: &'a str,
    /// The model it asks for.
    #[schema(example = "deepseek-flash")]
    model: &'a str,
    /// `queued`, `running`, `held`, `succeeded`, `failed` or `cancelled`.
    #[schema(example = "succeeded")]
    state: &'static str,
    /// 1 to 5, 5 is most urgent.
    priority: u8,
    /// Tries spent in this generation.
    attempts: u16,
    /// Tries at most.
    max_attempts: u16,
    /// Which life of the job, from 1; a replay begins the next.
    generation: u32,
    /// Not before this time, while it is queued.
    #[serde(serialize_with = "optional_time")]
    run_at: Option<DateTime<Utc>>,
    /// The gate that it waits for.
    deferred_by: Option<DeferredBy>,
    /// When it was submitted.
    #[serde(serialize_with = "time")]
    created_at: DateTime<Utc>,
    /// When its last attempt was leased.
    #[serde(serialize_with = "optional_time")]
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(serialize_with = "optional_time")]
    finished_at: Option<DateTime<Utc>>,
    /// Not after this time.
    #[serde(serialize_with = "optional_time")]
    deadline: Option<DateTime<Utc>>,
    /// Its idempotency key.
    idempotency_key: Option<&'a str>,
    /// The submitter's tags.
    tags: &'a BTreeMap<String, String>,
    /// The answer, once there is one; after a cancel perhaps a late one.
    result: Option<ResultObject<'a>>,
    /// Why it failed; of a job that waits, the last attempt's error.
    error: Option<ErrorObject<'a>>,
    /// The trace of its submit and its attempts.
    #[schema(example = "0af7651916cd43dd8448eb211c80319c")]
    trace_id: Option<&'a str>,
}

/// The answer that ended a job.
#[derive(Serialize, ToSchema)]
#[schema(as = JobResult)]
#[expect(clippy::struct_excessive_bools, reason = "these are the fields of the JSON")]
pub(crate) struct ResultObject<'a> {
    /// HTTP status of the answer.
    status_code: u16,
    /// The provider's JSON, unchanged; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    body: Option<Body<'a>>,
    /// `base64` where the answer is not JSON in UTF-8; else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    /// Whether the answer was cut because it was larger than is kept.
    truncated: bool,
    /// Whether the body was put together from a stream that Sluice chose.
    assembled: bool,
    /// Whether it came after its lease had ended.
    late: bool,
    /// Whether it came from the cache.
    cached: bool,
    /// The provider's id of the request.
    request_id: Option<&'a str>,
    /// Tokens, as the provider says.
    usage: Option<UsageObject>,
    /// What it cost, in US dollars.
    cost_usd: f64,
    /// How long the call took, in milliseconds.
    duration_ms: Option<i64>,
}

/// Tokens, as the provider says.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
#[expect(clippy::struct_field_names, reason = "these are the fields of the JSON")]
pub(crate) struct UsageObject {
    /// Tokens of the prompt, cached ones included.
    input_tokens: u64,
    /// Tokens of the prompt that came from the provider's context cache.
    cached_input_tokens: u64,
    /// Tokens of the answer, reasoning included.
    output_tokens: u64,
    /// Tokens of the answer that were reasoning.
    reasoning_tokens: u64,
}

/// Why a job failed.
#[derive(Serialize, ToSchema)]
#[schema(as = JobError)]
pub(crate) struct ErrorObject<'a> {
    /// A stable word.
    #[schema(example = "rate_limited")]
    class: &'static str,
    /// For people.
    message: &'a str,
    /// Whether the same request might succeed when it is replayed.
    retryable: bool,
}

enum Body<'a> {
    Json(&'a RawValue),
    OneLine(Box<RawValue>),
    Base64(String),
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(raw) => raw.serialize(serializer),
            Self::OneLine(raw) => raw.serialize(serializer),
            Self::Base64(text) => serializer.serialize_str(text),
        }
    }
}

/// A job with what its queue and the gates add to it: all that is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct ShownJob {
    /// The job.
    pub job: JobView,
    /// Tries at most, its own or its queue's.
    pub max_attempts: u16,
    /// The gate that it waits for.
    pub deferred_by: Option<DeferredBy>,
}

impl ShownJob {
    /// The job as it is shown where these gates stand.
    pub fn new(job: JobView, gates: &Gates) -> Self {
        let (max_attempts, deferred_by) = (max_attempts(&job, gates), gates.deferring(&job));
        Self { job, max_attempts, deferred_by }
    }

    /// Its JSON, as of [`job_json`].
    pub fn json(&self, form: BodyForm) -> Vec<u8> {
        bytes(&JobObject::of(&self.job, self.max_attempts, self.deferred_by.clone(), form))
    }
}

/// The JSON of a job.
pub fn job_json(job: &JobView, gates: &Gates, form: BodyForm) -> Vec<u8> {
    bytes(&JobObject::new(job, gates, form))
}

fn bytes(job: &JobObject<'_>) -> Vec<u8> {
    // Only maps with keys that are no strings, and failing writers, can't be serialised.
    serde_json::to_vec(job).expect("a job is serialisable")
}

fn max_attempts(job: &JobView, gates: &Gates) -> u16 {
    job.max_attempts.unwrap_or_else(|| gates.default_max_attempts(&job.queue))
}

impl<'a> JobObject<'a> {
    pub(crate) fn new(job: &'a JobView, gates: &Gates, form: BodyForm) -> Self {
        Self::of(job, max_attempts(job, gates), gates.deferring(job), form)
    }

    fn of(job: &'a JobView, max_attempts: u16, deferred_by: Option<DeferredBy>, form: BodyForm) -> Self {
        Self {
            id: job.id.to_string(),
            object: "job",
            tenant: job.tenant.as_str(),
            queue: job.queue.as_str(),
            path: job.path.as_str(),
            model: job.model.as_str(),
            state: job.state.as_str(),
            priority: job.priority.get(),
            attempts: job.tries,
            max_attempts,
            generation: job.generation,
            run_at: job.run_at,
            deferred_by,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            deadline: job.deadline,
            idempotency_key: job.idempotency_key.as_ref().map(sluice_domain::IdempotencyKey::as_str),
            tags: job.tags.pairs(),
            result: job.result.as_ref().map(|result| ResultObject::new(result, form)),
            error: job.error.as_ref().map(|error| ErrorObject {
                class: error.class.as_str(),
                message: &error.message,
                retryable: error.is_retryable,
            }),
            trace_id: job.traceparent.as_deref().and_then(|parent| parent.split('-').nth(1)),
        }
    }
}

impl<'a> ResultObject<'a> {
    fn new(result: &'a JobResult, form: BodyForm) -> Self {
        let body = shown_body(&result.body, form);
        Self {
            status_code: result.status_code,
            body_encoding: matches!(body, Some(Body::Base64(_))).then_some("base64"),
            body,
            truncated: result.is_truncated,
            assembled: result.is_assembled,
            late: result.is_late,
            cached: result.is_cached,
            request_id: result.request_id.as_deref(),
            usage: result.usage.map(|usage| UsageObject {
                input_tokens: usage.input_tokens,
                cached_input_tokens: usage.cached_input_tokens,
                output_tokens: usage.output_tokens,
                reasoning_tokens: usage.reasoning_tokens,
            }),
            cost_usd: result.cost.as_usd(),
            duration_ms: result.duration_ms,
        }
    }
}

fn shown_body(bytes: &[u8], form: BodyForm) -> Option<Body<'_>> {
    if form == BodyForm::LeftOut {
        return None;
    }
    Some(match as_json(bytes) {
        Some(raw) if form == BodyForm::OneLine && raw.get().contains(['\n', '\r']) => {
            // The text is valid JSON, in which a raw line break can only stand between tokens, never in a string.
            let text = raw.get().replace(['\n', '\r'], " ");
            RawValue::from_string(text).map_or(Body::Json(raw), Body::OneLine)
        }
        Some(raw) => Body::Json(raw),
        None => Body::Base64(STANDARD.encode(bytes)),
    })
}

/// The bytes as JSON, if that is what they are.
pub(crate) fn as_json(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

/// The JSON of one attempt of the ledger.
pub fn attempt_json(attempt: &AttemptRecord) -> serde_json::Value {
    serde_json::json!({
        "object": "attempt",
        "job_id": attempt.job_id,
        "lease_id": attempt.lease_id,
        "generation": attempt.generation,
        "lease_no": attempt.lease_no,
        "incarnation_id": attempt.incarnation_id,
        "begun_at": rfc3339(attempt.begun_at),
        "ended_at": attempt.ended_at.map(rfc3339),
        "outcome": attempt.outcome,
        "error_class": attempt.error_class,
        "error_message": attempt.error_message,
        "status_code": attempt.status_code,
        "call_id": attempt.call_id,
        "upstream": attempt.upstream,
        "upstream_model": attempt.upstream_model,
        "answered_model": attempt.answered_model,
        "request_id": attempt.request_id,
        "usage": attempt.usage,
        "cost_usd": attempt.cost_usd,
        "call_duration_ms": attempt.call_duration_ms,
        "late": attempt.is_late,
    })
}

/// RFC 3339, UTC, microseconds.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

pub(crate) fn time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
pub(crate) fn optional_time<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_str(&rfc3339(*time)),
        None => serializer.serialize_none(),
    }
}
