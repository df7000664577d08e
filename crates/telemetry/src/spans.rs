//! The spans of a job's trace: request → submit → (through the stored `traceparent`) attempt → call.
//!
//! The attempt is a child in the submit's trace rather than a linked trace of its own: whoever looks at one job sees
//! all of it at once. What is written to spans is names, numbers and classes, never a prompt or an answer.

use std::{fmt::Display, time::Duration};

use opentelemetry::{Array, StringValue, Value, trace::Status};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{
    names::{field, span},
    traceparent::continue_trace,
};

/// The target of the spans of single attempts and calls. There are many, and most of what they cost is the filling in:
/// where nobody sees them (nothing is exported, and the log shows no details), the filters refuse them by it.
pub(crate) const ATTEMPT_TARGET: &str = "sluice_telemetry::attempt";

/// An HTTP request that is answered.
#[derive(Clone, Copy, Debug)]
pub struct ServerFields<'a> {
    /// `GET`, `POST`, ….
    pub method: &'a str,
    /// The route's pattern, such as `/v1/jobs/{id}`.
    pub route: &'a str,
    /// The `traceparent` header of the client, if it sent one.
    pub traceparent: Option<&'a str>,
}

/// A span for an HTTP request, in the client's trace where it sent one.
pub fn server_span(fields: &ServerFields<'_>) -> Span {
    let request = info_span!(
        parent: None,
        span::SERVER,
        otel.name = format!("{} {}", fields.method, fields.route),
        otel.kind = "server",
        http.request.method = fields.method,
        http.route = fields.route,
        http.response.status_code = Empty,
    );
    if let Some(traceparent) = fields.traceparent {
        continue_trace(&request, traceparent);
    }
    request
}

/// Writes the answer's status to a request's span; 5xx is an error of ours.
pub fn record_server_status(request: &Span, status_code: u16) {
    request.record(field::HTTP_RESPONSE_STATUS_CODE, status_code);
    if status_code >= 500 {
        record_error(request, &status_code.to_string());
    }
}

/// Jobs that are accepted together.
#[derive(Clone, Copy, Debug)]
pub struct SubmitFields<'a> {
    /// Whose they are.
    pub tenant: &'a str,
    /// How they came in: `rest`, `grpc`, `cli`.
    pub protocol: &'a str,
    /// How many, where that is known beforehand.
    pub jobs: Option<u64>,
}

/// A span for a submit, a child of the span that is entered now. Its `traceparent` belongs into the jobs.
pub fn submit_span(fields: &SubmitFields<'_>) -> Span {
    let submit =
        info_span!(span::SUBMIT, otel.name = "submit", otel.kind = "producer", tenant = fields.tenant);
    submit.set_attribute(field::TENANT, fields.tenant.to_owned());
    submit.set_attribute(field::PROTOCOL, fields.protocol.to_owned());
    if let Some(jobs) = fields.jobs {
        submit.set_attribute(field::JOB_COUNT, clamped(jobs));
    }
    submit
}

/// Writes the id of a job that was submitted alone to its submit's span.
pub fn record_submitted_job(submit: &Span, job_id: &dyn Display) {
    submit.set_attribute(field::JOB_ID, job_id.to_string());
}

/// One attempt: from the lease to the settling.
#[derive(Clone, Copy)]
pub struct AttemptFields<'a> {
    /// The job.
    pub job_id: &'a dyn Display,
    /// Whose it is.
    pub tenant: &'a str,
    /// The line it stood in.
    pub queue: &'a str,
    /// The model it asks for.
    pub model: &'a str,
    /// Which life of the job.
    pub generation: u32,
    /// Which lease of the job.
    pub lease_no: u32,
    /// Tries spent before.
    pub tries: u16,
    /// How long it could have run but waited.
    pub waited: Duration,
    /// The `traceparent` that the submit stored.
    pub traceparent: Option<&'a str>,
}

/// A span for an attempt, in the trace of the job's submit. Log lines within it carry `job.id`, `queue` and `lease_no`.
/// Where spans are not exported and the log shows nothing below `info`, there is none: it comes back disabled.
pub fn attempt_span(fields: &AttemptFields<'_>) -> Span {
    let attempt = info_span!(
        target: ATTEMPT_TARGET,
        parent: None,
        span::ATTEMPT,
        otel.name = format!("attempt {}", fields.queue),
        otel.kind = "consumer",
        job.id = %fields.job_id,
        queue = fields.queue,
        lease_no = fields.lease_no,
    );
    if attempt.is_disabled() {
        return attempt;
    }
    if let Some(traceparent) = fields.traceparent {
        continue_trace(&attempt, traceparent);
    }
    attempt.set_attribute(field::JOB_ID, fields.job_id.to_string());
    attempt.set_attribute(field::TENANT, fields.tenant.to_owned());
    attempt.set_attribute(field::QUEUE, fields.queue.to_owned());
    attempt.set_attribute(field::GEN_AI_REQUEST_MODEL, fields.model.to_owned());
    attempt.set_attribute(field::JOB_GENERATION, i64::from(fields.generation));
    attempt.set_attribute(field::LEASE_NO, i64::from(fields.lease_no));
    attempt.set_attribute(field::TRIES, i64::from(fields.tries));
    attempt.set_attribute(field::QUEUE_WAIT_S, fields.waited.as_secs_f64());
    attempt
}

/// Writes how an attempt ended: the outcome's word, the class of its error, and when it is tried again.
pub fn record_attempt_end(
    attempt: &Span,
    outcome: &str,
    error_class: Option<&str>,
    retry_delay: Option<Duration>,
) {
    if attempt.is_disabled() {
        return;
    }
    attempt.set_attribute(field::OUTCOME, outcome.to_owned());
    if let Some(delay) = retry_delay {
        attempt.set_attribute(field::RETRY_DELAY_S, delay.as_secs_f64());
    }
    if let Some(class) = error_class {
        record_error(attempt, class);
    }
}

/// One HTTP call to an upstream, by the GenAI conventions.
#[derive(Clone, Copy)]
pub struct CallFields<'a> {
    /// The call's id on the ledger.
    pub call_id: &'a dyn Display,
    /// The API path, from which the operation's name follows.
    pub path: &'a str,
    /// The dialect: `deepseek`, `openai`.
    pub provider: &'a str,
    /// The upstream's name in the configuration.
    pub upstream: &'a str,
    /// The model that is asked for there.
    pub model: &'a str,
    /// Host of the upstream.
    pub server_address: &'a str,
    /// Port of the upstream.
    pub server_port: u16,
    /// `max_tokens` of the request.
    pub max_tokens: Option<u64>,
    /// `temperature` of the request.
    pub temperature: Option<f64>,
    /// `top_p` of the request.
    pub top_p: Option<f64>,
    /// `seed` of the request.
    pub seed: Option<i64>,
    /// Whether the answer is streamed.
    pub is_streamed: bool,
}

/// A span for a call, a child of `attempt`; disabled where that is.
pub fn call_span(attempt: &Span, fields: &CallFields<'_>) -> Span {
    let operation = operation_of_path(fields.path);
    let call = info_span!(
        target: ATTEMPT_TARGET,
        parent: attempt,
        span::CALL,
        otel.name = format!("{operation} {}", fields.model),
        otel.kind = "client",
        call.id = %fields.call_id,
        upstream = fields.upstream,
    );
    if call.is_disabled() {
        return call;
    }
    call.set_attribute(field::GEN_AI_OPERATION_NAME, operation);
    call.set_attribute(field::GEN_AI_PROVIDER_NAME, fields.provider.to_owned());
    call.set_attribute(field::GEN_AI_REQUEST_MODEL, fields.model.to_owned());
    call.set_attribute(field::GEN_AI_REQUEST_STREAM, fields.is_streamed);
    call.set_attribute(field::SERVER_ADDRESS, fields.server_address.to_owned());
    call.set_attribute(field::SERVER_PORT, i64::from(fields.server_port));
    call.set_attribute(field::CALL_ID, fields.call_id.to_string());
    call.set_attribute(field::UPSTREAM, fields.upstream.to_owned());
    set_if_some(&call, field::GEN_AI_REQUEST_MAX_TOKENS, fields.max_tokens.map(clamped));
    set_if_some(&call, field::GEN_AI_REQUEST_TEMPERATURE, fields.temperature);
    set_if_some(&call, field::GEN_AI_REQUEST_TOP_P, fields.top_p);
    set_if_some(&call, field::GEN_AI_REQUEST_SEED, fields.seed);
    call
}

/// What an answer says about itself. Absent values are left out of the span.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallAnswer<'a> {
    /// HTTP status.
    pub status_code: Option<u16>,
    /// The provider's id of the answer.
    pub response_id: Option<&'a str>,
    /// The model that answered.
    pub response_model: Option<&'a str>,
    /// Why each choice ended.
    pub finish_reasons: &'a [&'a str],
    /// Tokens of the prompt.
    pub input_tokens: Option<u64>,
    /// Of them, from the provider's cache.
    pub cached_input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// Of them, reasoning.
    pub reasoning_tokens: Option<u64>,
    /// From sending to the first chunk of a stream.
    pub time_to_first_chunk: Option<Duration>,
    /// What the call cost, in USD.
    pub cost_usd: Option<f64>,
}

/// Writes an answer to its call's span.
pub fn record_call_answer(call: &Span, answer: &CallAnswer<'_>) {
    set_if_some(call, field::HTTP_RESPONSE_STATUS_CODE, answer.status_code.map(i64::from));
    set_if_some(call, field::GEN_AI_RESPONSE_ID, answer.response_id.map(str::to_owned));
    set_if_some(call, field::GEN_AI_RESPONSE_MODEL, answer.response_model.map(str::to_owned));
    set_if_some(call, field::GEN_AI_USAGE_INPUT_TOKENS, answer.input_tokens.map(clamped));
    set_if_some(call, field::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, answer.cached_input_tokens.map(clamped));
    set_if_some(call, field::GEN_AI_USAGE_OUTPUT_TOKENS, answer.output_tokens.map(clamped));
    set_if_some(call, field::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, answer.reasoning_tokens.map(clamped));
    let to_first_chunk = answer.time_to_first_chunk.map(|time| time.as_secs_f64());
    set_if_some(call, field::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, to_first_chunk);
    set_if_some(call, field::COST_USD, answer.cost_usd);
    if !answer.finish_reasons.is_empty() {
        let reasons =
            answer.finish_reasons.iter().map(|reason| StringValue::from((*reason).to_owned())).collect();
        call.set_attribute(field::GEN_AI_RESPONSE_FINISH_REASONS, Value::Array(Array::String(reasons)));
    }
}

/// Marks a call as failed, with the class of its error (a stable word, never a text).
pub fn record_call_error(call: &Span, error_class: &str) {
    record_error(call, error_class);
}

/// The GenAI operation that an API path stands for.
pub fn operation_of_path(path: &str) -> &'static str {
    let path = path.trim_end_matches('/');
    if path.ends_with("/chat/completions") {
        "chat"
    } else if path.ends_with("/completions") {
        "text_completion"
    } else if path.ends_with("/embeddings") {
        "embeddings"
    } else if path.ends_with("/images/generations") {
        "image_generation"
    } else if path.ends_with("/responses") {
        "generate_content"
    } else {
        "other"
    }
}

fn record_error(failed: &Span, class: &str) {
    failed.set_attribute(field::ERROR_TYPE, class.to_owned());
    failed.set_status(Status::error(class.to_owned()));
}

fn set_if_some(target: &Span, key: &'static str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        target.set_attribute(key, value);
    }
}

/// OpenTelemetry's integers are signed.
fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
