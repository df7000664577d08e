//! Starting and stopping: from the environment to a subscriber, and back out within a bounded time.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, atomic::AtomicU64, mpsc::sync_channel},
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{Resource, error::OTelSdkError, trace::SdkTracerProvider};
use thiserror::Error;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, dynamic_filter_fn, filter_fn},
    fmt::{self, format::JsonFields, time::SystemTime},
    layer::{Context, Filter, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::{
    LogFormat, LogSink, MetricsRegistry,
    environment::{Destination, Settings},
    export,
    json_lines::JsonLines,
    runtime::ExportRuntime,
    span_queue::SpanQueue,
    spans::ATTEMPT_TARGET,
};

/// How long a dropped guard may take to send what is left.
const DROP_WITHIN: Duration = Duration::from_secs(2);
/// Libraries that repeat what is said elsewhere. OpenTelemetry's own log repeats each failed export; [`SpanQueue`] says
/// it once.
const QUIET: [&str; 5] = [
    "opentelemetry=off",
    "opentelemetry_sdk=off",
    "opentelemetry_otlp=off",
    "opentelemetry-otlp=off",
    // A pool warns of each connection that it finds broken when it puts it back; whoever needs one gets an error.
    "sqlx_core::pool=error",
];

/// What the process is called, and how it logs where the environment does not say.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// `service.name` where `OTEL_SERVICE_NAME` is not set: `sluice-worker`, `sluice-scheduler`, ….
    pub service_name: String,
    /// The log filter where `SLUICE_LOG` is not set, such as `info` or `warn`.
    pub default_filter: String,
}

impl TelemetryOptions {
    /// Options for `service_name`, logging from `info` on.
    pub fn new(service_name: impl Into<String>) -> Self {
        Self { service_name: service_name.into(), default_filter: "info".to_owned() }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// A variable holds what can't be used.
    #[error("read the variable {name}: {problem}")]
    Setting {
        /// The variable.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A thread could not be started.
    #[error("start a thread for telemetry")]
    Thread(#[source] io::Error),
    /// An exporter could not be built.
    #[error("set up the export to an OpenTelemetry collector")]
    Exporter(#[source] ExporterBuildError),
    /// The metrics could not be set up.
    #[error("set up metrics")]
    Metrics(#[source] OTelSdkError),
    /// The process has a subscriber already.
    #[error("set up logging: it was set up before")]
    AlreadySetUp,
}

/// Keeps telemetry going; sends what is left when it is dropped, within two seconds.
pub struct TelemetryGuard {
    metrics: MetricsRegistry,
    sink: LogSink,
    traces: Option<SdkTracerProvider>,
    /// Dropped last: the exporters live on it.
    _runtime: Option<ExportRuntime>,
    is_shut_down: bool,
}

/// Sets up logs to stderr, traces and metrics for this process, as the environment says. Call it once, before any
/// thread that logs; hold the guard until the end.
pub fn init(options: &TelemetryOptions) -> Result<TelemetryGuard, TelemetryError> {
    let default_format = if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    let sink = LogSink::start(io::stderr()).map_err(TelemetryError::Thread)?;
    let (subscriber, guard) = build(options, |name| std::env::var(name).ok(), sink, default_format)?;
    subscriber.try_init().map_err(|_| TelemetryError::AlreadySetUp)?;
    Ok(guard)
}

/// All of [`init`] but for what is global: the variables and the subscriber.
pub(crate) fn build(
    options: &TelemetryOptions,
    variable: impl Fn(&str) -> Option<String>,
    sink: LogSink,
    default_format: LogFormat,
) -> Result<(impl Subscriber + Send + Sync + 'static, TelemetryGuard), TelemetryError> {
    let format =
        variable("SLUICE_LOG_FORMAT").filter(|v| !v.is_empty()).map_or(Ok(default_format), |v| v.parse())?;
    let filter = log_filter(variable("SLUICE_LOG"), &options.default_filter)?;
    let settings = Settings::read(&variable)?;
    let resource = resource(&options.service_name, &settings);
    let (traces_to, metrics_to) = if settings.is_disabled {
        (None, None)
    } else {
        (settings.traces.as_ref(), settings.metrics.as_ref())
    };
    let runtime = (traces_to.is_some() || metrics_to.is_some()).then(ExportRuntime::start).transpose();
    let runtime = runtime.map_err(TelemetryError::Thread)?;
    let dropped_spans = Arc::new(AtomicU64::new(0));
    let metrics = registry(metrics_to, &resource, runtime.as_ref())?;
    metrics.watch_drops(sink.clone(), Arc::clone(&dropped_spans));
    let traces = if settings.is_disabled {
        None
    } else {
        Some(tracer_provider(traces_to, &settings, &resource, runtime.as_ref(), dropped_spans)?)
    };
    let span_layer = traces.as_ref().map(|provider| {
        // Events stay in the log, which carries the same ids.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("sluice"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(span_filter(traces_to.is_some()))
    });
    let log_filter = without_unseen_attempts(filter);
    let subscriber =
        Registry::default().with(span_layer).with(log_layer(format, sink.clone()).with_filter(log_filter));
    let guard = TelemetryGuard { metrics, sink, traces, _runtime: runtime, is_shut_down: false };
    Ok((subscriber, guard))
}

/// Whether it is the span of a single attempt or call.
fn is_of_attempt(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == ATTEMPT_TARGET
}

/// What the log shows. Its lines name the attempt that they belong to where it shows details; elsewhere the few lines
/// that an attempt writes name the job themselves.
fn without_unseen_attempts<S>(filter: EnvFilter) -> impl Filter<S> + Send + Sync + 'static
where
    S: Subscriber + for<'lookup> tracing_subscriber::registry::LookupSpan<'lookup>,
{
    let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let shows_details = most >= LevelFilter::DEBUG;
    // Two filters together have a hint only where both have one.
    let attempts =
        filter_fn(move |metadata| shows_details || !is_of_attempt(metadata)).with_max_level_hint(most);
    filter.and(attempts)
}

/// Lets spans of ours through, which are of the level `info`: those of the exporters' own HTTP stack would be exported
/// in turn, for ever. Those of attempts and calls only where they are exported: their ids would be seen nowhere, and a
/// call then carries on the trace that its job came with.
fn span_filter<S: 'static>(is_exported: bool) -> impl Filter<S> + Send + Sync + 'static {
    const LEVEL: LevelFilter = LevelFilter::INFO;
    let is_ours = move |metadata: &Metadata<'_>| {
        metadata.is_span()
            && *metadata.level() <= LEVEL
            && metadata.target().starts_with("sluice")
            && (is_exported || !is_of_attempt(metadata))
    };
    // `sometimes`, although the answer never changes: where a library asks whether a line is wanted and then writes
    // none, the registry keeps the filters' noes for the thread, and takes them for its next span, unless that span's
    // filters are asked anew. With `always`, that span would be neither exported nor seen on log lines.
    let interest = move |metadata: &'static Metadata<'static>| {
        if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
    };
    // Without the hint, whoever asks `log::log_enabled!` is told that everything is wanted.
    dynamic_filter_fn(move |metadata: &Metadata<'_>, _: &Context<'_, S>| is_ours(metadata))
        .with_max_level_hint(LEVEL)
        .with_callsite_filter(interest)
}

fn log_filter(given: Option<String>, default: &str) -> Result<EnvFilter, TelemetryError> {
    let text = given.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| default.to_owned());
    let directives = QUIET.iter().copied().chain([text.as_str()]).collect::<Vec<_>>().join(",");
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(directives).map_err(|error| {
        TelemetryError::Setting {
            name: "SLUICE_LOG".to_owned(),
            problem: format!("{text:?} is no filter such as info or sluice_worker=debug,warn: {error}"),
        }
    })
}

fn log_layer<S>(format: LogFormat, sink: LogSink) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'lookup> tracing_subscriber::registry::LookupSpan<'lookup>,
{
    let layer = fmt::layer().with_writer(sink);
    match format {
        LogFormat::Text => {
            let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            layer.with_timer(SystemTime).with_target(false).with_ansi(is_coloured).boxed()
        }
        LogFormat::Json => layer.fmt_fields(JsonFields::new()).event_format(JsonLines).boxed(),
    }
}

fn resource(service_name: &str, settings: &Settings) -> Resource {
    let name = settings.service_name.clone().unwrap_or_else(|| service_name.to_owned());
    let given =
        settings.resource_attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .with_attributes(given)
        .with_attribute(KeyValue::new("service.name", name))
        .build()
}

fn registry(
    destination: Option<&Destination>,
    resource: &Resource,
    runtime: Option<&ExportRuntime>,
) -> Result<MetricsRegistry, TelemetryError> {
    let exporter = match (destination, runtime) {
        (Some(destination), Some(runtime)) => {
            install_crypto();
            Some(export::metric_exporter(destination, runtime.handle()).map_err(TelemetryError::Exporter)?)
        }
        _ => None,
    };
    MetricsRegistry::build(resource.clone(), exporter)
}

fn tracer_provider(
    destination: Option<&Destination>,
    settings: &Settings,
    resource: &Resource,
    runtime: Option<&ExportRuntime>,
    dropped_spans: Arc<AtomicU64>,
) -> Result<SdkTracerProvider, TelemetryError> {
    // Without a destination there still are trace ids for what comes in: for log lines, and for processes further on
    // that export.
    let mut builder =
        SdkTracerProvider::builder().with_sampler(settings.sampler.clone()).with_resource(resource.clone());
    if let (Some(destination), Some(runtime)) = (destination, runtime) {
        install_crypto();
        let exporter = export::span_exporter(destination, resource, runtime.handle())
            .map_err(TelemetryError::Exporter)?;
        builder = builder.with_span_processor(SpanQueue::start(
            exporter,
            settings.span_queue,
            runtime.handle(),
            dropped_spans,
        ));
    }
    Ok(builder.build())
}

/// The HTTP exporter's client takes the process's provider; an earlier one is as good.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl TelemetryGuard {
    /// The process's metrics.
    pub fn metrics(&self) -> &MetricsRegistry {
        &self.metrics
    }

    /// Sends what is left, within `within` altogether. It blocks: from async code, call it where that is no harm.
    pub fn shutdown(mut self, within: Duration) {
        self.flush(within);
    }

    fn flush(&mut self, within: Duration) {
        if std::mem::replace(&mut self.is_shut_down, true) {
            return;
        }
        let until = Instant::now() + within;
        // On a thread of its own: the SDK's shutdown waits for its exporter, and an exporter may hang.
        let (done, is_done) = sync_channel(1);
        let (traces, meters) = (self.traces.clone(), self.metrics.provider().clone());
        let flushing = thread::Builder::new().name("sluice-flush".to_owned()).spawn(move || {
            // Failing to send the last spans of a process to a collector that is away is nothing to act on.
            let _ = traces.map(|provider| provider.shutdown_with_timeout(within));
            let _ = meters.shutdown_with_timeout(within);
            let _ = done.try_send(());
        });
        if flushing.is_ok() {
            let _ = is_done.recv_timeout(within);
        }
        // The log comes last, and gets a moment even when the collector used up the time.
        self.sink.flush(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(200)));
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        self.flush(DROP_WITHIN);
    }
}
