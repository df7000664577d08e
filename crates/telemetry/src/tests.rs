//! Telemetry as a process sees it: lines on the log, spans at a collector, metrics on a page.

mod alert_rules;
mod dead_collector;
mod http_export;
mod log_lines;
mod metrics_page;
mod settings;
mod traces;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing::Dispatch;

use crate::{LogFormat, LogSink, TelemetryGuard, TelemetryOptions, setup};

/// A sink that keeps what was written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Telemetry of a process of its own, as `variables` say, logging to `log`.
fn process(variables: &[(&str, &str)], log: &Kept) -> (Dispatch, TelemetryGuard) {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sink = LogSink::start(log.clone()).unwrap();
    let options = TelemetryOptions::new("sluice-test");
    let (subscriber, guard) =
        setup::build(&options, |name| variables.get(name).cloned(), sink, LogFormat::Json).unwrap();
    (Dispatch::new(subscriber), guard)
}
