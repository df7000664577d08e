//! Telemetry that belongs to a whole process: `init` with the real variables, and what libraries do next to it.
//!
//! Each test runs this binary again as a process of its own, with the collector's address in its environment.

use std::{process::Command, time::Duration};

use sluice_telemetry::{
    ServerFields, SubmitFields, TelemetryOptions, init, record_server_status, server_span, submit_span,
};
use sluice_testkit::Collector;

/// Runs `role`, an ignored test below, and returns the names of the spans that it exported.
fn spans_exported_by(role: &str) -> Vec<String> {
    let collector = Collector::default();
    let endpoint = collector.start();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--ignored"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env_remove("SLUICE_LOG")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    let spans = collector.spans.lock().unwrap();
    let mut names: Vec<String> = spans.iter().map(|(_, span)| span.name.clone()).collect();
    names.sort_unstable();
    names
}

#[test]
fn no_span_is_lost_after_a_library_asked_for_a_level() {
    let exported = spans_exported_by("a_server_whose_libraries_ask_for_levels");
    assert_eq!(exported, ["GET /readyz", "POST /v1/jobs", "submit"]);
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn a_server_whose_libraries_ask_for_levels() {
    let guard = init(&TelemetryOptions::new("sluice-test")).unwrap();
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
}

/// As a database's client does after each statement: it asks both worlds whether a line is wanted, and writes none.
fn ask_for_levels() {
    assert!(!tracing::enabled!(target: "sqlx::query", tracing::Level::DEBUG));
    assert!(!log::log_enabled!(target: "sqlx::query", log::Level::Debug));
    // The log never has lines of this target, whatever their level.
    let _ = log::log_enabled!(target: "opentelemetry", log::Level::Error);
}
