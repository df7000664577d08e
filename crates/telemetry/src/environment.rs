//! What the environment says about logs and exports, read once at the start.
//!
//! OpenTelemetry's own variables mean what its specification says, with one difference: where no endpoint is set,
//! nothing is exported, and no connection to `localhost:4317` is tried.

use std::{str::FromStr, time::Duration};

use opentelemetry_sdk::trace::Sampler;

use crate::TelemetryError;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people at a terminal.
    Text,
    /// A JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Setting {
                name: "SLUICE_LOG_FORMAT".to_owned(),
                problem: format!("{text:?} is neither text nor json"),
            }),
        }
    }
}

/// How a signal travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// Where a signal goes and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Destination {
    pub(crate) endpoint: String,
    pub(crate) protocol: Protocol,
}

/// Bounds of the queue of spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpanQueueLimits {
    pub(crate) queue_spans: usize,
    pub(crate) batch_spans: usize,
    pub(crate) delay: Duration,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) is_disabled: bool,
    pub(crate) traces: Option<Destination>,
    pub(crate) metrics: Option<Destination>,
    pub(crate) sampler: Sampler,
    pub(crate) span_queue: SpanQueueLimits,
    /// `OTEL_SERVICE_NAME`, or `service.name` in `OTEL_RESOURCE_ATTRIBUTES`.
    pub(crate) service_name: Option<String>,
    pub(crate) resource_attributes: Vec<(String, String)>,
}

/// A variable's value; an empty one counts as absent, as OpenTelemetry has it.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn positive(&self, name: &str, default: usize) -> Result<usize, TelemetryError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| TelemetryError::Setting {
            name: name.to_owned(),
            problem: format!("{text:?} is not a number from 1 to 1000000"),
        })
    }
}

impl Settings {
    /// Reads the variables through `get`.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let variables = Variables(get);
        let resource_attributes = resource_attributes(&variables);
        let named =
            resource_attributes.iter().find(|(key, _)| key == "service.name").map(|(_, name)| name.clone());
        Ok(Self {
            is_disabled: variables.get("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")),
            traces: destination(&variables, "TRACES", "/v1/traces")?,
            metrics: destination(&variables, "METRICS", "/v1/metrics")?,
            sampler: sampler(&variables)?,
            span_queue: SpanQueueLimits {
                queue_spans: variables.positive("OTEL_BSP_MAX_QUEUE_SIZE", 4096)?,
                batch_spans: variables.positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?,
                delay: Duration::from_millis(variables.positive("OTEL_BSP_SCHEDULE_DELAY", 1000)? as u64),
            },
            service_name: variables.get("OTEL_SERVICE_NAME").or(named),
            resource_attributes,
        })
    }
}

fn destination<F: Fn(&str) -> Option<String>>(
    variables: &Variables<F>,
    signal: &str,
    http_path: &str,
) -> Result<Option<Destination>, TelemetryError> {
    let exporter_name = format!("OTEL_{signal}_EXPORTER");
    match variables.get(&exporter_name).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => {
            return Err(TelemetryError::Setting {
                name: exporter_name,
                problem: format!("{other:?} is neither otlp nor none"),
            });
        }
    }
    let own_protocol = format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL");
    let protocol = match variables
        .get(&own_protocol)
        .or_else(|| variables.get("OTEL_EXPORTER_OTLP_PROTOCOL"))
        .as_deref()
    {
        None | Some("grpc") => Protocol::Grpc,
        Some("http/protobuf") => Protocol::HttpProtobuf,
        Some(other) => {
            return Err(TelemetryError::Setting {
                name: "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(),
                problem: format!("{other:?} is neither grpc nor http/protobuf"),
            });
        }
    };
    let own_name = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let (name, endpoint) = if let Some(own) = variables.get(&own_name) {
        (own_name, own)
    } else if let Some(shared) = variables.get("OTEL_EXPORTER_OTLP_ENDPOINT") {
        let endpoint = match protocol {
            Protocol::Grpc => shared,
            Protocol::HttpProtobuf => format!("{}{http_path}", shared.trim_end_matches('/')),
        };
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint)
    } else {
        return Ok(None);
    };
    // It is not repeated: a URL may hold a password.
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        let problem = "must be a URL such as http://collector:4317".to_owned();
        return Err(TelemetryError::Setting { name, problem });
    }
    Ok(Some(Destination { endpoint, protocol }))
}

fn sampler<F: Fn(&str) -> Option<String>>(variables: &Variables<F>) -> Result<Sampler, TelemetryError> {
    let ratio = || match variables.get("OTEL_TRACES_SAMPLER_ARG") {
        None => Ok(1.0),
        Some(text) => {
            text.parse().ok().filter(|r| (0.0..=1.0).contains(r)).ok_or_else(|| TelemetryError::Setting {
                name: "OTEL_TRACES_SAMPLER_ARG".to_owned(),
                problem: format!("{text:?} is not a number from 0 to 1"),
            })
        }
    };
    let parent_based = |root: Sampler| Sampler::ParentBased(Box::new(root));
    Ok(match variables.get("OTEL_TRACES_SAMPLER").as_deref() {
        None | Some("parentbased_always_on") => parent_based(Sampler::AlwaysOn),
        Some("parentbased_always_off") => parent_based(Sampler::AlwaysOff),
        Some("parentbased_traceidratio") => parent_based(Sampler::TraceIdRatioBased(ratio()?)),
        Some("always_on") => Sampler::AlwaysOn,
        Some("always_off") => Sampler::AlwaysOff,
        Some("traceidratio") => Sampler::TraceIdRatioBased(ratio()?),
        Some(other) => {
            return Err(TelemetryError::Setting {
                name: "OTEL_TRACES_SAMPLER".to_owned(),
                problem: format!(
                    "{other:?} is none of always_on, always_off, traceidratio, parentbased_always_on, \
                     parentbased_always_off, parentbased_traceidratio"
                ),
            });
        }
    })
}

/// `key=value,…`, values percent-encoded; what doesn't parse is left out.
fn resource_attributes<F: Fn(&str) -> Option<String>>(variables: &Variables<F>) -> Vec<(String, String)> {
    variables
        .get("OTEL_RESOURCE_ATTRIBUTES")
        .unwrap_or_default()
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), percent_decoded(value.trim())))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.filter(|_| first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
