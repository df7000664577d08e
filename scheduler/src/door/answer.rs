//! From a job that has ended to what its client gets.
//!
//! The provider's status and bytes, wherever there are any. A job that ended without, or with an answer that is no result
//! although its status says so, gets an error of ours. After a failure the client is told not to repeat its request: the
//! job was tried as often as its queue says, and the next request would only be another job.

use axum::response::{IntoResponse, Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use sluice_domain::{ErrorClass, JobError, JobId, JobResult, JobState, JobView};

use super::chunks;
use crate::{
    input::AnswerForm,
    job_json::as_json,
    server::{ApiError, SHOULD_RETRY},
};

const JOB_ID: HeaderName = HeaderName::from_static("x-sluice-job-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ERROR_CLASS: HeaderName = HeaderName::from_static("x-sluice-error-class");
pub(super) const KNOWN: HeaderName = HeaderName::from_static("x-sluice-known");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Whose request made the job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// This one.
    New,
    /// An earlier one: with the same key, or one that this one repeats.
    Known,
}

/// The answer to the client of a job that has ended.
pub(super) fn of_job(job: JobView, form: AnswerForm, origin: Origin) -> Response {
    let id = job.id;
    let class = job.error.as_ref().map(|error| error.class);
    let request_id = job.result.as_ref().and_then(|result| result.request_id.clone());
    let duration_ms = job.result.as_ref().and_then(|result| result.duration_ms);
    let mut response = match (job.state, job.result, job.error) {
        (JobState::Succeeded, Some(result), _) => whole_or_stream(result, form),
        (JobState::Failed, Some(result), _) if !is_success(&result) => verbatim(result),
        (_, _, error) => of_error(job.state, id, error.as_ref()).into_response(),
    };
    let headers = response.headers_mut();
    if job.state != JobState::Succeeded {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(class) = class {
        headers.insert(ERROR_CLASS, HeaderValue::from_static(class.as_str()));
    }
    if origin == Origin::Known {
        headers.insert(KNOWN, HeaderValue::from_static("true"));
    }
    if let Some(duration_ms) = duration_ms {
        headers.insert(PROCESSING_MS, HeaderValue::from(duration_ms));
    }
    // The provider's own, where it has one that can stand in a header.
    if let Some(value) = request_id.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(REQUEST_ID, value);
    }
    named(response, id)
}

/// Names the job in the answer's headers.
pub(super) fn named(mut response: Response, id: JobId) -> Response {
    // A UUID is made of letters that may stand in a header.
    let value = HeaderValue::from_str(&id.to_string()).expect("an id can stand in a header");
    let headers = response.headers_mut();
    headers.entry(REQUEST_ID).or_insert_with(|| value.clone());
    headers.insert(JOB_ID, value);
    response
}

fn is_success(result: &JobResult) -> bool {
    (200..300).contains(&result.status_code)
}

fn whole_or_stream(result: JobResult, form: AnswerForm) -> Response {
    if let AnswerForm::Stream { wants_usage } = form
        && let Some(events) = chunks::of_completion(&result.body, wants_usage)
    {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
        return (StatusCode::OK, headers, events).into_response();
    }
    verbatim(result)
}

/// The provider's status and bytes.
fn verbatim(result: JobResult) -> Response {
    let kind = if as_json(&result.body).is_some() { "application/json" } else { "application/octet-stream" };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        // A provider's bytes are never to be taken for a page of ours.
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let status = StatusCode::from_u16(result.status_code).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, headers, result.body).into_response()
}

/// The error of a job that ended without an answer to give.
pub(super) fn of_error(state: JobState, id: JobId, error: Option<&JobError>) -> ApiError {
    if state == JobState::Cancelled {
        let message = format!("the job {id} was cancelled");
        return ApiError::new(StatusCode::CONFLICT, "job_cancelled", message);
    }
    let class = error.map_or(ErrorClass::Internal, |error| error.class);
    let text = error.map_or("it ended without an answer", |error| error.message.as_str());
    let (status, code) = status_of(class);
    ApiError::new(status, code, format!("the job {id} failed: {text}"))
}

/// The status that a class has where no provider gave one.
const fn status_of(class: ErrorClass) -> (StatusCode, &'static str) {
    let status = match class {
        ErrorClass::RateLimited | ErrorClass::QuotaExhausted => StatusCode::TOO_MANY_REQUESTS,
        // As OpenAI answers for a model that it has not got.
        ErrorClass::NoRoute => return (StatusCode::NOT_FOUND, "model_not_found"),
        ErrorClass::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Cancelled | ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::UpstreamTimeout
        | ErrorClass::Stalled
        | ErrorClass::CallTimeout
        | ErrorClass::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorClass::Overloaded | ErrorClass::NotSent | ErrorClass::LeaseLost => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorClass::Poison | ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorClass::Unauthorized
        | ErrorClass::Forbidden
        | ErrorClass::ServerError
        | ErrorClass::IncompleteAnswer
        | ErrorClass::InvalidOutput
        | ErrorClass::MalformedAnswer
        | ErrorClass::OversizedAnswer
        | ErrorClass::ConnectionLost => StatusCode::BAD_GATEWAY,
    };
    (status, class.as_str())
}
