//! Telemetry that belongs to a whole process: `init` with the real variables, and what libraries do next to it.
//!
//! The test runs its own binary again, as the process whose spans it looks at.

use std::{process::Command, time::Duration};

use sluice_telemetry::{
    ServerFields, SubmitFields, TelemetryError, TelemetryOptions, init, record_server_status, server_span,
    submit_span,
};
use sluice_testkit::Collector;

/// Set in the process that exports.
const EXPORTING: &str = "SLUICE_TEST_EXPORTING";

#[test]
fn no_span_is_lost_after_a_library_asked_for_a_level() {
    if std::env::var_os(EXPORTING).is_some() {
        return serve_two_requests().unwrap();
    }
    let collector = Collector::default();
    let endpoint = collector.start();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_span_is_lost_after_a_library_asked_for_a_level"])
        .env(EXPORTING, "1")
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
