//! The OTLP exporters, over gRPC or HTTP.
//!
//! Headers, timeouts and compression are read by the exporters themselves from OpenTelemetry's variables.

use std::time::Duration;

use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol as OtlpProtocol, SpanExporter, WithExportConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::SpanExporter as _,
};
use tokio::runtime::Handle;

use crate::{
    environment::{Destination, Protocol},
    runtime::OnRuntime,
};

/// An exporter of spans for `destination`.
pub(crate) fn span_exporter(
    destination: &Destination,
    resource: &Resource,
    runtime: &Handle,
) -> Result<SpanExporter, ExporterBuildError> {
    let _entered = runtime.enter();
    let builder = SpanExporter::builder();
    let mut exporter = match destination.protocol {
        Protocol::Grpc => builder.with_tonic().with_endpoint(&destination.endpoint).build(),
        Protocol::HttpProtobuf => builder
            .with_http()
            .with_protocol(OtlpProtocol::HttpBinary)
            .with_endpoint(&destination.endpoint)
            .build(),
    }?;
    exporter.set_resource(resource);
    Ok(exporter)
}

/// An exporter of metrics for `destination`.
pub(crate) fn metric_exporter(
    destination: &Destination,
    runtime: &Handle,
) -> Result<MetricsOnRuntime, ExporterBuildError> {
    let _entered = runtime.enter();
    let builder = MetricExporter::builder();
    let exporter = match destination.protocol {
        Protocol::Grpc => builder.with_tonic().with_endpoint(&destination.endpoint).build(),
        Protocol::HttpProtobuf => builder
            .with_http()
            .with_protocol(OtlpProtocol::HttpBinary)
            .with_endpoint(&destination.endpoint)
            .build(),
    }?;
    Ok(MetricsOnRuntime { exporter, runtime: runtime.clone() })
}

/// The exporter of metrics, polled in the context of the export runtime.
pub(crate) struct MetricsOnRuntime {
    exporter: MetricExporter,
    runtime: Handle,
}

impl PushMetricExporter for MetricsOnRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        OnRuntime { handle: &self.runtime, future: Box::pin(self.exporter.export(metrics)) }.await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
