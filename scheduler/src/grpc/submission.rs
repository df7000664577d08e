//! A submitted message, checked by the rules that REST has: it becomes the document that REST would have been sent, so
//! that there is one set of rules and of messages. The body stands in it byte for byte.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::value::RawValue;
use sluice_domain::{NewJob, TenantName};
use sluice_proto::v1::{OnUnknown, SubmitRequest};

use super::time;
use crate::{InputFault, InvalidInput, parse_submission, wall_clock};

/// The document. What is `null` counts as absent.
#[derive(Serialize)]
struct Document<'a> {
    body: &'a RawValue,
    path: Option<&'a str>,
    model: Option<&'a str>,
    queue: Option<&'a str>,
    priority: Option<u32>,
    idempotency_key: Option<&'a str>,
    run_at: Option<String>,
    deadline: Option<String>,
    max_attempts: Option<u32>,
    on_unknown: Option<Cow<'static, str>>,
    tags: &'a BTreeMap<String, String>,
    webhook: Option<&'a str>,
}

/// Checks a message and gives the job an id. The `traceparent` is left to the caller.
pub(super) fn job_of(request: &SubmitRequest, tenant: &TenantName) -> Result<NewJob, InvalidInput> {
    let document = Document {
        // Read by itself first: bytes that are no single JSON value must not reach into the other fields.
        body: body(&request.body)?,
        path: request.path.as_deref(),
        model: request.model.as_deref(),
        queue: request.queue.as_deref(),
        priority: request.priority,
        idempotency_key: request.idempotency_key.as_deref(),
        run_at: time::text_of("/run_at", request.run_at)?,
        deadline: time::text_of("/deadline", request.deadline)?,
        max_attempts: request.max_attempts,
        on_unknown: on_unknown(request.on_unknown),
        tags: &request.tags,
        webhook: request.webhook.as_deref(),
    };
    // Strings, numbers and raw JSON.
    let document = serde_json::to_vec(&document).expect("a submission is serialisable");
    parse_submission(&document, tenant, wall_clock())
}

fn body(bytes: &[u8]) -> Result<&RawValue, InvalidInput> {
    if bytes.is_empty() {
        let message = "body is missing; it is the request's JSON, such as {\"messages\":[…]}";
        return Err(InvalidInput::at("/body", "missing_field", message));
    }
    let malformed = |code, message| InvalidInput {
        fault: InputFault::Malformed,
        code,
        message,
        pointer: Some("/body".to_owned()),
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        malformed("invalid_utf8", format!("the body is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    serde_json::from_str(text)
        .map_err(|error| malformed("malformed_json", format!("the body is not JSON: {error}")))
}

fn on_unknown(given: i32) -> Option<Cow<'static, str>> {
    match OnUnknown::try_from(given) {
        Ok(OnUnknown::Unspecified) => None,
        Ok(OnUnknown::Retry) => Some("retry".into()),
        Ok(OnUnknown::Hold) => Some("hold".into()),
        Err(_) => Some(given.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use sluice_domain::{OnUnknown, TenantName};
    use sluice_proto::{
        Timestamp,
        v1::{self, SubmitRequest},
    };

    use super::job_of;
    use crate::InvalidInput;

    fn job(request: &SubmitRequest) -> Result<sluice_domain::NewJob, InvalidInput> {
        job_of(request, &TenantName::default_tenant())
    }

    fn request(body: &'static [u8]) -> SubmitRequest {
        SubmitRequest { body: body.into(), ..SubmitRequest::default() }
    }

    #[test]
    fn the_body_keeps_its_bytes() {
        let body = br#"{"model": "m",  "seed": 123456789012345678901234567890, "a":1.0e400}"#;
        assert_eq!(job(&request(body)).unwrap().body, body);
    }

    #[test]
    fn a_body_can_not_reach_into_other_fields() {
        for body in [&br#"{"model":"m"},"priority":5"#[..], br#"{"model":"m"}}{"#, b"{} {}", b"{", b"\xff"] {
            let error = job(&request(body)).unwrap_err();
            assert_eq!(error.pointer.as_deref(), Some("/body"), "{error}");
        }
    }

    #[test]
    fn fields_are_checked_by_the_rules_of_rest() {
        let good = || request(br#"{"model":"m"}"#);
        let refused: [(&str, SubmitRequest); 10] = [
            ("/priority", SubmitRequest { priority: Some(0), ..good() }),
            ("/priority", SubmitRequest { priority: Some(6), ..good() }),
            ("/queue", SubmitRequest { queue: Some("run:1".into()), ..good() }),
            ("/path", SubmitRequest { path: Some(String::new()), ..good() }),
            ("/max_attempts", SubmitRequest { max_attempts: Some(101), ..good() }),
            ("/idempotency_key", SubmitRequest { idempotency_key: Some("a\0".into()), ..good() }),
            ("/on_unknown", SubmitRequest { on_unknown: 7, ..good() }),
            ("/run_at", SubmitRequest { run_at: Some(Timestamp { seconds: 0, nanos: -1 }), ..good() }),
            (
                "/deadline",
                SubmitRequest { deadline: Some(Timestamp { seconds: i64::MAX, nanos: 0 }), ..good() },
            ),
            ("/tags", SubmitRequest { tags: [(String::new(), String::new())].into(), ..good() }),
        ];
        for (pointer, request) in refused {
            assert_eq!(job(&request).unwrap_err().pointer.as_deref(), Some(pointer));
        }
        assert_eq!(job(&request(b"")).unwrap_err().code, "missing_field");
        assert_eq!(job(&request(b"[]")).unwrap_err().code, "invalid_type");
        assert_eq!(job(&request(b"{}")).unwrap_err().pointer.as_deref(), Some("/model"));
    }

    #[test]
    fn fields_arrive_as_they_were_meant() {
        let request = SubmitRequest {
            priority: Some(5),
            on_unknown: v1::OnUnknown::Hold.into(),
            run_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 }),
            tags: [("k".into(), "v".into())].into(),
            ..request(br#"{"model":"m"}"#)
        };
        let job = job(&request).unwrap();
        assert_eq!((job.priority.get(), job.on_unknown), (5, OnUnknown::Hold));
        assert_eq!(job.run_at.unwrap().timestamp_micros(), 1_700_000_000_123_456);
        assert_eq!(job.tags.pairs()["k"], "v");
    }
}
