//! A job as a line of results: OpenAI's batch output line, plus what Sluice knows of the job.
//!
//! The provider's JSON is spliced in unchanged, but for line breaks between tokens, which become spaces. What is no
//! JSON in UTF-8 stands there as base64, marked by `body_encoding`.

use std::{borrow::Cow, io::Write};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Serialize, de::IgnoredAny};
use sluice_domain::{JobId, JobResult, JobState, JobView, Usage};

use crate::exit::causes;

/// What the `id` of every line begins with.
pub const LINE_START: &str = "{\"id\":\"batch_req_";
/// The tag that keeps a line's own id.
pub const CUSTOM_ID_TAG: &str = "custom_id";

#[derive(Serialize)]
struct Extras {
    job_id: JobId,
    attempts: u16,
    cached: bool,
    cost_usd: f64,
    usage: Option<Usage>,
    duration_ms: Option<i64>,
}

#[derive(Serialize)]
struct LineError<'a> {
    code: &'a str,
    message: &'a str,
}

/// What a job's result is found by: the line's own id; else, for a job of a run, the line's number; else the job's id.
pub fn custom_id(job: &JobView) -> Cow<'_, str> {
    if let Some(own) = job.tags.pairs().get(CUSTOM_ID_TAG) {
        return Cow::Borrowed(own);
    }
    let key = job.idempotency_key.as_ref().filter(|_| job.queue.is_of_a_run());
    match key.and_then(|key| key.as_str().rsplit_once(':')) {
        Some((_, line_no)) => Cow::Borrowed(line_no),
        None => Cow::Owned(job.id.to_string()),
    }
}

/// Appends a job's line, with its line break. The job must have been read with its body.
pub fn push_line(lines: &mut Vec<u8>, job: &JobView) {
    let id = job.id.as_uuid().simple();
    push(lines, format_args!("{LINE_START}{id}\",\"custom_id\":{},\"response\":", json(&custom_id(job))));
    match &job.result {
        Some(result) => push_response(lines, result),
        None => lines.extend_from_slice(b"null"),
    }
    push(lines, format_args!(",\"error\":{},\"sluice\":{}}}\n", json(&error_of(job)), json(&extras_of(job))));
}

fn push_response(lines: &mut Vec<u8>, result: &JobResult) {
    let request_id = result.request_id.as_deref().unwrap_or_default();
    push(
        lines,
        format_args!(
            "{{\"status_code\":{},\"request_id\":{},\"body\":",
            result.status_code,
            json(request_id)
        ),
    );
    if is_json(&result.body) {
        lines.extend(result.body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    } else {
        push(lines, format_args!("\"{}\",\"body_encoding\":\"base64\"", BASE64.encode(&result.body)));
    }
    if result.is_assembled {
        lines.extend_from_slice(b",\"assembled\":true");
    }
    if result.is_truncated {
        lines.extend_from_slice(b",\"truncated\":true");
    }
    lines.push(b'}');
}

/// HTTP errors stay in the response; this is for what has none, and for a success status that was no success.
fn error_of(job: &JobView) -> Option<LineError<'_>> {
    let has_error_status =
        job.result.as_ref().is_some_and(|result| !(200..300).contains(&result.status_code));
    if job.state == JobState::Succeeded || has_error_status {
        return None;
    }
    Some(match &job.error {
        Some(error) => LineError { code: error.class.as_str(), message: &error.message },
        None => LineError { code: job.state.as_str(), message: "" },
    })
}

fn extras_of(job: &JobView) -> Extras {
    let result = job.result.as_ref();
    Extras {
        job_id: job.id,
        attempts: job.tries,
        cached: result.is_some_and(|result| result.is_cached),
        cost_usd: result.map_or(0.0, |result| result.cost.as_usd()),
        usage: result.and_then(|result| result.usage),
        duration_ms: result.and_then(|result| result.duration_ms),
    }
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn push(lines: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = lines.write_fmt(text);
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(error = causes(&error), "a value could not be written as JSON");
        "null".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use sluice_domain::{
        ApiPath, ErrorClass, IdempotencyKey, JobError, ModelName, NanoUsd, OnUnknown, Priority, QueueName,
        Tags, TenantName,
    };

    use super::*;

    fn job(state: JobState, result: Option<JobResult>) -> JobView {
        JobView {
            id: "01890000-0000-7000-8000-000000000001".parse().unwrap(),
            tenant: TenantName::default_tenant(),
            queue: QueueName::new("run:00ff").unwrap(),
            path: ApiPath::default(),
            model: ModelName::new("m").unwrap(),
            state,
            hold_reason: None,
            priority: Priority::default(),
            tries: 2,
            crashes: 0,
            max_attempts: None,
            generation: 1,
            run_at: None,
            created_at: DateTime::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            deadline: None,
            on_unknown: OnUnknown::Retry,
            idempotency_key: Some(IdempotencyKey::new("run:abc:17").unwrap()),
            tags: Tags::default(),
            result,
            error: None,
            traceparent: None,
        }
    }

    fn result(status_code: u16, body: &[u8]) -> JobResult {
        JobResult {
            status_code,
            body: body.to_vec(),
            is_truncated: false,
            is_assembled: false,
            is_late: false,
            is_cached: false,
            request_id: Some("r\"1".to_owned()),
            usage: None,
            cost: NanoUsd(1_500_000),
            duration_ms: Some(12),
        }
    }

    fn line(job: &JobView) -> String {
        let mut lines = Vec::new();
        push_line(&mut lines, job);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_success_is_a_batch_output_line_with_the_body_spliced_in() {
        let line = line(&job(JobState::Succeeded, Some(result(200, b"{\n \"a\": 1.00,\r\n\"b\":\"\\n\"}"))));
        assert_eq!(
            line,
            "{\"id\":\"batch_req_01890000000070008000000000000001\",\"custom_id\":\"17\",\"response\":{\"status_code\":200,\
             \"request_id\":\"r\\\"1\",\"body\":{  \"a\": 1.00,  \"b\":\"\\n\"}},\"error\":null,\"sluice\":{\"job_id\":\
             \"01890000-0000-7000-8000-000000000001\",\"attempts\":2,\"cached\":false,\"cost_usd\":0.0015,\"usage\":null,\
             \"duration_ms\":12}}\n"
        );
    }

    #[test]
    fn what_is_no_json_is_base64() {
        let line = line(&job(JobState::Failed, Some(result(502, b"<html>\xff"))));
        assert!(line.contains(r#""body":"PGh0bWw+/w==","body_encoding":"base64"}"#), "{line}");
        assert!(line.contains(r#""error":null"#), "an HTTP error stays in the response: {line}");
    }

    #[test]
    fn a_failure_without_http_error_says_its_class() {
        let mut failed = job(JobState::Failed, None);
        failed.error =
            Some(JobError { class: ErrorClass::NotSent, message: "refused".to_owned(), is_retryable: true });
        let expected = r#""response":null,"error":{"code":"not_sent","message":"refused"}"#;
        assert!(line(&failed).contains(expected), "{}", line(&failed));
    }

    #[test]
    fn a_line_of_its_own_id_is_found_by_it() {
        let mut job = job(JobState::Succeeded, None);
        let pairs = [(CUSTOM_ID_TAG.to_owned(), "mine".to_owned())].into();
        job.tags = Tags::new(pairs).unwrap();
        assert_eq!(custom_id(&job), "mine");
    }
}
