//! Metrics: typed instruments for each role, shown on `/metrics` and exported by OTLP where that is configured.
//!
//! One [`MetricsRegistry`] belongs to a process, whatever roles it runs. Recording is a hash of a few labels and an
//! atomic addition. Labels are names from the configuration and stable words, never ids: their number is bounded.

mod expiry;
mod gates;
mod scheduler;
mod worker;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use prometheus::{Registry, TextEncoder};

pub use expiry::{Death, ExpiryMetrics, LeaseStanding};
pub use gates::{ClosedGate, GateMetrics, GateStanding, LimitStanding};
pub use scheduler::{HttpMeasure, QueueDepth, SchedulerMetrics};
pub use worker::{AttemptEnd, CallMeasure, TokenUse, WorkerMetrics};

use crate::{LogSink, TelemetryError, export::MetricsOnRuntime, names::metric};

/// Bounds of durations that belong to the database and to our own answers, in seconds.
const FAST_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Bounds of what takes from milliseconds to days, in seconds.
const WAIT_SECONDS: [f64; 12] =
    [0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0];

/// All metrics of a process. Clones share them.
#[derive(Clone)]
pub struct MetricsRegistry {
    registry: Registry,
    provider: SdkMeterProvider,
    is_exported: bool,
}

impl MetricsRegistry {
    /// A registry that is exported nowhere: for `/metrics` alone.
    pub fn new() -> Result<Self, TelemetryError> {
        Self::build(Resource::builder_empty().build(), None)
    }

    pub(crate) fn build(
        resource: Resource,
        exporter: Option<MetricsOnRuntime>,
    ) -> Result<Self, TelemetryError> {
        let (registry, is_exported) = (Registry::new(), exporter.is_some());
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(TelemetryError::Metrics)?;
        let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(reader);
        if let Some(exporter) = exporter {
            builder = builder.with_reader(PeriodicReader::builder(exporter).build());
        }
        Ok(Self { registry, provider: builder.build(), is_exported })
    }

    /// The instruments of a worker.
    pub fn worker(&self) -> WorkerMetrics {
        WorkerMetrics::new(&self.meter())
    }

    /// The instruments of a scheduler.
    pub fn scheduler(&self) -> SchedulerMetrics {
        SchedulerMetrics::new(&self.meter())
    }

    /// Whether it is sent to a collector, so that measures must be fresh though nobody asks for them.
    pub fn is_exported(&self) -> bool {
        self.is_exported
    }

    /// Everything in Prometheus' text format (`text/plain; version=0.0.4`).
    pub fn render_prometheus(&self) -> String {
        // The encoder fails only on metrics without samples or names, which the exporter doesn't make.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Counts what telemetry itself had to drop.
    pub(crate) fn watch_drops(&self, sink: LogSink, dropped_spans: Arc<AtomicU64>) {
        let meter = self.meter();
        meter
            .u64_observable_counter(metric::LOG_LINES_DROPPED)
            .with_description("Log lines dropped because their sink was slow")
            .with_callback(move |observer| observer.observe(sink.dropped_lines(), &[]))
            .build();
        meter
            .u64_observable_counter(metric::SPANS_DROPPED)
            .with_description("Spans dropped because the collector was slow or away")
            .with_callback(move |observer| observer.observe(dropped_spans.load(Ordering::Relaxed), &[]))
            .build();
    }

    pub(crate) fn provider(&self) -> &SdkMeterProvider {
        &self.provider
    }

    fn meter(&self) -> Meter {
        self.provider.meter("sluice")
    }
}
