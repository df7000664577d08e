//! One line of a batch's output or error file.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_domain::{ErrorClass, JobError, JobResult, JobState, JobView};
use sluice_store::BatchLine;

use crate::job_json::as_json;

/// Which file a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Results.
    Output,
    /// Everything else.
    Errors,
}

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<Error<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: String,
    body: Body<'a>,
    /// `base64` where the provider's bytes are no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    OneLine(Box<RawValue>),
    Base64(String),
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
}

/// The line of a job that has ended, with its line break; `None`: the job is past its retention.
pub(super) fn of(line: &BatchLine, job: Option<&JobView>) -> (Place, Vec<u8>) {
    let (place, response, error) = match job {
        Some(job) => parts(job),
        None => (
            Place::Errors,
            None,
            Some(Error { code: "result_gone", message: "the result is not kept any more" }),
        ),
    };
    let id = format!("batch_req_{}", line.job.as_uuid().simple());
    let line = Line { id, custom_id: &line.custom_id, response, error };
    // Writing into memory does not fail, and the line is made of strings, numbers and JSON.
    let mut text = serde_json::to_vec(&line).expect("a line is serialisable");
    text.push(b'\n');
    (place, text)
}

fn parts(job: &JobView) -> (Place, Option<Response<'_>>, Option<Error<'_>>) {
    let result = job.result.as_ref();
    let is_success = result.is_some_and(|result| (200..300).contains(&result.status_code));
    match (job.state, result) {
        (JobState::Succeeded, Some(result)) => (Place::Output, Some(response(job, result)), None),
        // What the provider itself refused.
        (JobState::Failed, Some(result)) if !is_success => (Place::Errors, Some(response(job, result)), None),
        // A success by its status, which was none.
        (JobState::Failed, Some(result)) => (Place::Errors, Some(response(job, result)), Some(error(job))),
        _ => (Place::Errors, None, Some(error(job))),
    }
}

fn response<'a>(job: &JobView, result: &'a JobResult) -> Response<'a> {
    let (body, body_encoding) = match as_json(&result.body) {
        Some(raw) if raw.get().contains(['\n', '\r']) => {
            // In valid JSON a raw line break can only stand between tokens, never in a string.
            let text = raw.get().replace(['\n', '\r'], " ");
            (RawValue::from_string(text).map_or(Body::Json(raw), Body::OneLine), None)
        }
        Some(raw) => (Body::Json(raw), None),
        None => (Body::Base64(STANDARD.encode(&result.body)), Some("base64")),
    };
    let request_id = result.request_id.clone().unwrap_or_else(|| job.id.to_string());
    Response { status_code: result.status_code, request_id, body, body_encoding }
}

fn error(job: &JobView) -> Error<'_> {
    if job.state == JobState::Cancelled {
        let message = "the batch was cancelled before this line was done";
        return Error { code: "batch_cancelled", message };
    }
    let Some(JobError { class, message, .. }) = &job.error else {
        return Error { code: "internal", message: "the line ended without an answer" };
    };
    match class {
        ErrorClass::DeadlineExceeded => {
            Error { code: "batch_expired", message: "the batch's window was over before this line was done" }
        }
        class => Error { code: class.as_str(), message },
    }
}
