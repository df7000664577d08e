//! A collector that is away or silent slows nothing, and what is lost is counted.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use tracing::{dispatcher::with_default, info_span};

use super::{Kept, process};

/// Spans of a busy second.
const SPANS: u32 = 10_000;
/// Far more than they need, and far less than one wait for a collector (10 s).
const AT_MOST: Duration = Duration::from_secs(4);

fn spans_are_not_slowed_by(endpoint: &str, protocol: &str) {
    let log = Kept::default();
    let (dispatch, guard) = process(
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)],
        &log,
    );
    let began = Instant::now();
    with_default(&dispatch, || {
        for number in 0..SPANS {
            info_span!("busy", number).in_scope(|| ());
        }
    });
    assert!(began.elapsed() < AT_MOST, "{SPANS} spans took {:?}", began.elapsed());
    let page = guard.metrics().render_prometheus();
    let dropped = page.lines().find_map(|line| line.strip_prefix("sluice_telemetry_spans_dropped_total "));
    // The queue holds 4,096; one batch may be under way.
    assert!(dropped.is_some_and(|count| count.parse::<f64>().unwrap() >= 5000.0), "{page}");
    let stopping = Instant::now();
    guard.shutdown(Duration::from_millis(500));
    assert!(stopping.elapsed() < Duration::from_secs(2), "the shutdown took {:?}", stopping.elapsed());
}

#[test]
fn a_closed_port_slows_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    spans_are_not_slowed_by(&format!("http://{free}"), "grpc");
    spans_are_not_slowed_by(&format!("http://{free}"), "http/protobuf");
}

#[test]
fn a_black_hole_slows_nothing() {
    // Connections are accepted by the kernel, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    spans_are_not_slowed_by(&endpoint, "grpc");
    spans_are_not_slowed_by(&endpoint, "http/protobuf");
}
