//! Lines of JSON, and a sink that is stuck.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tracing::{dispatcher::with_default, error, info, info_span};

use super::{Kept, process};
use crate::{LogSink, current_traceparent};

#[test]
fn a_line_reads_alone_and_carries_the_ids_of_its_trace() {
    let log = Kept::default();
    let (dispatch, guard) = process(&[], &log);
    let traceparent = with_default(&dispatch, || {
        info_span!("attempt", otel.name = "attempt q", job.id = "j1", queue = "outer").in_scope(|| {
            info!(queue = "inner", duration_ms = 12, retried = true, share = 0.5, "job was settled");
            current_traceparent().unwrap()
        })
    });
    guard.shutdown(Duration::from_secs(5));
    let text = log.text();
    let mut line: Value = serde_json::from_str(text.trim_end()).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys[..4], ["time", "level", "target", "message"]);
    let time = line.as_object_mut().unwrap().shift_remove("time").unwrap();
    let time = time.as_str().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    assert_eq!(
        line,
        json!({
            "level": "INFO",
            "target": "sluice_telemetry::tests::log_lines",
            "message": "job was settled",
            "queue": "inner",
            "duration_ms": 12,
            "retried": true,
            "share": 0.5,
            "job.id": "j1",
            "trace_id": traceparent[3..35],
            "span_id": traceparent[36..52],
        })
    );
}

#[test]
fn an_error_is_told_with_its_causes() {
    let log = Kept::default();
    let (dispatch, guard) = process(&[], &log);
    let cause = io::Error::other(io::Error::new(io::ErrorKind::TimedOut, "took too long"));
    with_default(&dispatch, || error!(error = &cause as &dyn std::error::Error, "beat failed"));
    guard.shutdown(Duration::from_secs(5));
    let line: Value = serde_json::from_str(log.text().trim_end()).unwrap();
    assert_eq!((&line["message"], &line["error"]), (&json!("beat failed"), &json!("took too long")));
    assert_eq!(line.get("trace_id"), None);
}

#[test]
fn the_filter_holds_for_lines_and_not_for_traces() {
    let log = Kept::default();
    let (dispatch, guard) = process(&[("SLUICE_LOG", "warn")], &log);
    with_default(&dispatch, || {
        info_span!("attempt").in_scope(|| {
            info!("not shown");
            error!("shown");
            assert!(current_traceparent().is_some());
        });
    });
    guard.shutdown(Duration::from_secs(5));
    let text = log.text();
    assert!(text.contains("\"shown\"") && text.contains("trace_id") && !text.contains("not shown"), "{text}");
}

#[test]
fn text_is_for_people() {
    let log = Kept::default();
    let (dispatch, guard) = process(&[("SLUICE_LOG_FORMAT", "text")], &log);
    with_default(&dispatch, || info!(queue = "q", "job was settled"));
    guard.shutdown(Duration::from_secs(5));
    assert!(log.text().ends_with("job was settled queue=\"q\"\n"), "{}", log.text());
}

/// A sink that writes nothing until it is told to.
struct Stuck {
    release: Receiver<()>,
    kept: Kept,
    is_released: bool,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_released {
            let _ = self.release.recv();
            self.is_released = true;
        }
        self.kept.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_blocks_nobody_and_lost_lines_are_counted() {
    let (release, released) = channel();
    let kept = Kept::default();
    let sink = LogSink::start(Stuck { release: released, kept: kept.clone(), is_released: false }).unwrap();
    let began = Instant::now();
    for _ in 0..20_000 {
        use tracing_subscriber::fmt::MakeWriter;
        sink.make_writer().write_all(b"{\"message\":\"line\"}\n").unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let dropped = sink.dropped_lines();
    assert!((11_000..=12_000).contains(&dropped), "{dropped}");
    assert!(!sink.flush(Duration::from_millis(50)));
    release.send(()).unwrap();
    while !sink.flush(Duration::from_secs(5)) {}
    let text = kept.text();
    assert_eq!(text.matches("\"line\"").count() as u64, 20_000 - dropped);
    assert!(text.contains(&format!("{dropped} log lines were dropped")), "the loss is told");
}
