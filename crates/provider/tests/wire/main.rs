//! The client against a server that misbehaves byte for byte.

#![expect(clippy::unwrap_used, reason = "a test that can not be set up should stop where it is")]

mod answers;
mod connection;
mod server;
mod streams;

use std::time::Duration;

use sluice_domain::{ApiPath, CallId, ErrorClass, ModelName, UpstreamName};
use sluice_provider::{
    Answer, CallReport, CallRequest, Client, Credential, Dialect, MayBegin, NotSentReason, Secret, Timeouts,
    Upstream, WireOutcome,
};
use tokio_util::sync::CancellationToken;

/// A chat completion as a plain answer.
const COMPLETION: &str = r#"{"id":"c1","object":"chat.completion","model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;

const JSON: &str = "content-type: application/json\r\n";

/// An upstream with clocks that a test can wait for.
fn upstream(url: &str) -> Upstream {
    let mut upstream = Upstream::new(UpstreamName::new("test").unwrap(), Dialect::DeepSeek, url);
    upstream.credential = Credential::Bearer(Secret::new("sk-test"));
    upstream.timeouts = Timeouts {
        connect: Duration::from_millis(300),
        send: Duration::from_millis(500),
        first_byte: Duration::from_millis(700),
        first_token: Duration::from_millis(900),
        between_tokens: Duration::from_millis(300),
        total: Duration::from_secs(5),
    };
    upstream
}

fn request(body: &str) -> CallRequest {
    CallRequest {
        call_id: CallId::generate(),
        path: ApiPath::default(),
        model: ModelName::new("deepseek-flash").unwrap(),
        body: body.to_owned().into(),
        traceparent: None,
        usual_duration: None,
        may_begin: MayBegin::default(),
    }
}

const PLAIN: &str = r#"{"model":"deepseek-flash","messages":[]}"#;
const STREAMED: &str = r#"{"model":"deepseek-flash","messages":[],"stream":true}"#;

async fn call(upstream: Upstream, body: &str) -> CallReport {
    Client::new(upstream).unwrap().call(request(body), &CancellationToken::new()).await
}

fn answered(report: &CallReport) -> &Answer {
    report.answer().unwrap_or_else(|| panic!("not answered: {report:?}"))
}

fn assert_unknown(report: &CallReport, class: ErrorClass) {
    assert_eq!(report.outcome, WireOutcome::Unknown(class));
    assert!(report.was_sent() && report.duration.is_some() && report.sent_at.is_some());
}

fn assert_not_sent(report: &CallReport, expected: NotSentReason) {
    let WireOutcome::NotSent { reason, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(*reason, expected);
    assert!(!report.was_sent() && report.duration.is_none() && report.sent_at.is_none());
}
