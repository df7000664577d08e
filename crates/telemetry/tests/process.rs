//! Telemetry that belongs to a whole process: `init` with the real variables, and what libraries do next to it.
//!
//! The tests run their own binary again, as the process whose spans they look at.

use std::{process::Command, time::Duration};

use sluice_telemetry::{
    AttemptFields, ServerFields, SubmitFields, TelemetryError, TelemetryOptions, attempt_span, init,
    record_server_status, server_span, submit_span, traceparent_of,
};
use sluice_testkit::Collector;

/// Set in the process that is looked at.
const LOOKED_AT: &str = "SLUICE_TEST_LOOKED_AT";

#[test]
fn no_span_is_lost_after_a_library_asked_for_a_level() {
    if std::env::var_os(LOOKED_AT).is_some() {
        return serve_two_requests().unwrap();
    }
    let collector = Collector::default();
    let endpoint = collector.start();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_span_is_lost_after_a_library_asked_for_a_level"])
        .env(LOOKED_AT, "1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env_remove("SLUICE_LOG")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    let spans = collector.spans.lock().unwrap();
    let mut exported: Vec<_> = spans.iter().map(|(_, span)| span.name.as_str()).collect();
    exported.sort_unstable();
    assert_eq!(exported, ["GET /readyz", "POST /v1/jobs", "submit"]);
}

#[test]
fn an_attempt_that_nobody_sees_has_no_span() {
    if std::env::var_os(LOOKED_AT).is_some() {
        return attempt_unseen().unwrap();
    }
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_attempt_that_nobody_sees_has_no_span"])
        .env(LOOKED_AT, "1")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .env_remove("SLUICE_LOG")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

fn attempt_unseen() -> Result<(), TelemetryError> {
    let guard = init(&TelemetryOptions::new("sluice-test"))?;
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let request = server_span(&ServerFields { method: "POST", route: "/v1/jobs", traceparent });
    assert!(traceparent_of(&request).is_some());
    let attempt = attempt_span(&AttemptFields {
        job_id: &"job-1",
        tenant: "default",
        queue: "nightly",
        model: "deepseek-flash",
        generation: 1,
        lease_no: 1,
        tries: 0,
        waited: Duration::ZERO,
        traceparent,
    });
    // So the call carries on the trace that its job came with.
    assert!(attempt.is_disabled() && traceparent_of(&attempt).is_none());
    guard.shutdown(Duration::from_secs(10));
    Ok(())
}

fn serve_two_requests() -> Result<(), TelemetryError> {
    let guard = init(&TelemetryOptions::new("sluice-test"))?;
    for (method, route) in [("GET", "/readyz"), ("POST", "/v1/jobs")] {
        let request = server_span(&ServerFields { method, route, traceparent: None });
        request.in_scope(|| {
            if method == "POST" {
                let submit = submit_span(&SubmitFields { tenant: "default", protocol: "rest", jobs: None });
                submit.in_scope(ask_for_levels);
            }
            ask_for_levels();
        });
        record_server_status(&request, 200);
    }
    guard.shutdown(Duration::from_secs(10));
    Ok(())
}

/// As a database's client does after each statement: it asks both worlds whether a line is wanted, and writes none.
fn ask_for_levels() {
    assert!(!tracing::enabled!(target: "database", tracing::Level::DEBUG));
    assert!(!log::log_enabled!(target: "database", log::Level::Debug));
    // The log never has lines of this target, whatever their level.
    let _ = log::log_enabled!(target: "opentelemetry", log::Level::Error);
}
