//! One trace per job, across processes.

use std::time::Duration;

use sluice_testkit::{Collector, attribute};
use tracing::dispatcher::with_default;

use super::{Kept, process};
use crate::{
    AttemptFields, CallAnswer, CallFields, ServerFields, SubmitFields, attempt_span, call_span,
    continue_trace, current_traceparent, is_traceparent, link_to, names::field, record_attempt_end,
    record_call_answer, record_call_error, server_span, submit_span, traceparent_of,
};

const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn attempt(traceparent: Option<&str>) -> AttemptFields<'_> {
    AttemptFields {
        job_id: &"job-1",
        tenant: "default",
        queue: "nightly",
        model: "deepseek-flash",
        generation: 1,
        lease_no: 2,
        tries: 1,
        waited: Duration::from_millis(1500),
        traceparent,
    }
}

fn request(traceparent: Option<&str>) -> ServerFields<'_> {
    ServerFields { method: "POST", route: "/v1/jobs", traceparent }
}

fn call() -> CallFields<'static> {
    CallFields {
        call_id: &"call-1",
        path: "/v1/chat/completions",
        provider: "deepseek",
        upstream: "deepseek-us",
        model: "deepseek-flash",
        server_address: "api.deepseek.com",
        server_port: 443,
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: None,
        seed: None,
        is_streamed: true,
    }
}

/// Submits in one process and works in another; gives what the submit stored.
fn submit_and_work(variables: &[(&str, &str)]) -> String {
    let (scheduler, scheduler_guard) =
        process(&[variables, &[("OTEL_SERVICE_NAME", "scheduler")]].concat(), &Kept::default());
    let stored = with_default(&scheduler, || {
        let submit = submit_span(&SubmitFields { tenant: "default", protocol: "rest", jobs: Some(1) });
        submit.in_scope(|| current_traceparent().unwrap())
    });
    let (worker, worker_guard) =
        process(&[variables, &[("OTEL_SERVICE_NAME", "worker")]].concat(), &Kept::default());
    with_default(&worker, || {
        let attempt = attempt_span(&attempt(Some(&stored)));
        let call = call_span(&attempt, &call());
        record_call_answer(
            &call,
            &CallAnswer {
                status_code: Some(200),
                response_model: Some("deepseek-flash-0910"),
                finish_reasons: &["stop"],
                input_tokens: Some(12),
                output_tokens: Some(34),
                cost_usd: Some(0.000_02),
                ..CallAnswer::default()
            },
        );
        record_call_error(&call, "incomplete_answer");
        drop(call);
        record_attempt_end(&attempt, "retry", Some("incomplete_answer"), Some(Duration::from_secs(2)));
    });
    scheduler_guard.shutdown(Duration::from_secs(10));
    worker_guard.shutdown(Duration::from_secs(10));
    stored
}

#[test]
fn a_job_is_one_trace_from_its_submit_to_its_call() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let stored = submit_and_work(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);

    let (scheduler, submit) = collector.span("submit");
    let (worker, attempt) = collector.span("attempt nightly");
    let (_, call) = collector.span("chat deepseek-flash");
    assert_eq!((scheduler.as_str(), worker.as_str()), ("scheduler", "worker"));
    assert_eq!((&submit.trace_id, &submit.trace_id), (&attempt.trace_id, &call.trace_id));
    assert_eq!(submit.parent_span_id, Vec::<u8>::new());
    assert_eq!(attempt.parent_span_id, submit.span_id);
    assert_eq!(call.parent_span_id, attempt.span_id);
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(stored, format!("00-{}-{}-01", hex(&submit.trace_id), hex(&submit.span_id)));
}

#[test]
fn spans_carry_the_conventional_attributes_and_nothing_else() {
    let collector = Collector::default();
    let endpoint = collector.start();
    submit_and_work(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint)]);

    let (_, call) = collector.span("chat deepseek-flash");
    // Kinds of OTLP: 3 is client, 5 is consumer; status 2 is error.
    assert_eq!((call.kind, call.status.as_ref().unwrap().code), (3, 2));
    for (key, wanted) in [
        (field::GEN_AI_OPERATION_NAME, "chat"),
        (field::GEN_AI_PROVIDER_NAME, "deepseek"),
        (field::GEN_AI_REQUEST_MODEL, "deepseek-flash"),
        (field::GEN_AI_REQUEST_MAX_TOKENS, "100"),
        (field::GEN_AI_REQUEST_TEMPERATURE, "0.5"),
        (field::GEN_AI_REQUEST_STREAM, "true"),
        (field::GEN_AI_RESPONSE_MODEL, "deepseek-flash-0910"),
        (field::GEN_AI_USAGE_INPUT_TOKENS, "12"),
        (field::GEN_AI_USAGE_OUTPUT_TOKENS, "34"),
        (field::SERVER_ADDRESS, "api.deepseek.com"),
        (field::SERVER_PORT, "443"),
        (field::ERROR_TYPE, "incomplete_answer"),
        (field::COST_USD, "0.00002"),
    ] {
        assert_eq!(attribute(&call.attributes, key).as_deref(), Some(wanted), "{key}");
    }
    let (_, attempt) = collector.span("attempt nightly");
    assert_eq!(attempt.kind, 5);
    for (key, wanted) in [
        (field::JOB_ID, "job-1"),
        (field::QUEUE_WAIT_S, "1.5"),
        (field::RETRY_DELAY_S, "2"),
        (field::OUTCOME, "retry"),
        (field::LEASE_NO, "2"),
    ] {
        assert_eq!(attribute(&attempt.attributes, key).as_deref(), Some(wanted), "{key}");
    }
    let mut keys: Vec<_> = call.attributes.iter().map(|pair| pair.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), call.attributes.len(), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("thread") || key.contains("code.")), "{keys:?}");
}

#[test]
fn a_trace_goes_on_without_any_collector() {
    let (dispatch, _guard) = process(&[], &Kept::default());
    with_default(&dispatch, || {
        let request = server_span(&request(Some(CLIENT)));
        let own = traceparent_of(&request).unwrap();
        assert!(is_traceparent(&own));
        assert_eq!(own[..36], CLIENT[..36]);
        assert_ne!(own[36..52], CLIENT[36..52]);
        assert_eq!(current_traceparent(), None);
    });
}

#[test]
fn what_is_no_traceparent_begins_a_new_trace() {
    let (dispatch, _guard) = process(&[], &Kept::default());
    with_default(&dispatch, || {
        let request = server_span(&request(Some("00-nonsense")));
        assert!(traceparent_of(&request).is_some_and(|own| own[..36] != CLIENT[..36]));
        assert!(!continue_trace(&request, "00-nonsense"));
    });
}

#[test]
fn an_attempt_that_the_log_shows_has_a_span() {
    let log = Kept::default();
    let (dispatch, guard) = process(&[("SLUICE_LOG", "debug")], &log);
    with_default(&dispatch, || {
        let attempt = attempt_span(&attempt(Some(CLIENT)));
        let call = call_span(&attempt, &call());
        tracing::debug!(parent: &call, "a call ended");
    });
    guard.shutdown(Duration::from_secs(5));
    let text = log.text();
    for part in ["\"job.id\":\"job-1\"", "\"queue\":\"nightly\"", "\"call.id\":\"call-1\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_linked_span_stays_in_its_own_trace() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let (dispatch, guard) = process(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)], &Kept::default());
    with_default(&dispatch, || {
        let span = tracing::info_span!(parent: None, "group");
        assert!(link_to(&span, CLIENT));
        assert!(!link_to(&span, "nonsense"));
    });
    guard.shutdown(Duration::from_secs(10));
    let (_, group) = collector.span("group");
    assert_eq!(group.links.len(), 1);
    assert_ne!(group.links[0].trace_id, group.trace_id);
}

#[test]
fn an_unsampled_trace_is_continued_and_not_exported() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let stored =
        submit_and_work(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_TRACES_SAMPLER", "always_off")]);
    assert!(stored.ends_with("-00"), "{stored}");
    assert!(collector.spans.lock().unwrap().is_empty());
}

#[test]
fn telemetry_that_is_disabled_makes_no_traces() {
    let (dispatch, _guard) = process(&[("OTEL_SDK_DISABLED", "true")], &Kept::default());
    with_default(&dispatch, || {
        let span = attempt_span(&attempt(Some(CLIENT)));
        assert_eq!(span.in_scope(current_traceparent), None);
    });
}
