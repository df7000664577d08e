//! What the environment may say.

use opentelemetry_sdk::trace::Sampler;

use super::Kept;
use crate::{
    LogFormat, LogSink, TelemetryOptions,
    environment::{Destination, Protocol, Settings},
    setup,
};

fn settings(variables: &[(&str, &str)]) -> Settings {
    Settings::read(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap()
}

fn refusal(name: &str, value: &str) -> String {
    let options = TelemetryOptions::new("sluice-test");
    let sink = LogSink::start(Kept::default()).unwrap();
    let variable = |asked: &str| (asked == name).then(|| value.to_owned());
    match setup::build(&options, variable, sink, LogFormat::Json) {
        Ok(_) => panic!("{name}={value} should be refused"),
        Err(error) => error.to_string(),
    }
}

fn destination(endpoint: &str, protocol: Protocol) -> Destination {
    Destination { endpoint: endpoint.to_owned(), protocol }
}

#[test]
fn nothing_is_exported_where_no_endpoint_is_set() {
    let settings = settings(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    assert_eq!((settings.traces, settings.metrics), (None, None));
    assert!(matches!(settings.sampler, Sampler::ParentBased(_)));
}

#[test]
fn an_endpoint_serves_both_signals_unless_one_has_its_own() {
    let shared = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    let settings_shared = settings(&[shared]);
    assert_eq!(settings_shared.traces, Some(destination("http://c:4317", Protocol::Grpc)));
    assert_eq!(settings_shared.metrics, settings_shared.traces);

    let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4318/custom");
    let settings_http = settings(&[shared, http, own]);
    assert_eq!(settings_http.traces, Some(destination("http://t:4318/custom", Protocol::HttpProtobuf)));
    assert_eq!(settings_http.metrics, Some(destination("http://c:4317/v1/metrics", Protocol::HttpProtobuf)));

    let off = settings(&[shared, ("OTEL_TRACES_EXPORTER", "none")]);
    assert_eq!((off.traces, off.metrics.is_some()), (None, true));
}

#[test]
fn the_service_is_named_by_its_own_variable_first() {
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b,deployment.environment=prod,broken");
    assert_eq!(settings(&[attributes]).service_name.as_deref(), Some("a b"));
    let named = settings(&[attributes, ("OTEL_SERVICE_NAME", "mine")]);
    assert_eq!(named.service_name.as_deref(), Some("mine"));
    assert_eq!(named.resource_attributes.len(), 2);
}

#[test]
fn what_can_not_be_used_is_refused_by_name() {
    for (name, value, problem) in [
        ("SLUICE_LOG_FORMAT", "xml", "\"xml\" is neither text nor json"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "\"http/json\" is neither grpc nor http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "\"zipkin\" is neither otlp nor none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "\"0\" is not a number from 1 to 1000000"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "must be a URL such as http://collector:4317"),
    ] {
        assert_eq!(refusal(name, value), format!("read the variable {name}: {problem}"));
    }
    assert!(refusal("SLUICE_LOG", "info,=x=").starts_with("read the variable SLUICE_LOG: "));
    assert!(refusal("OTEL_TRACES_SAMPLER", "some").contains("is none of always_on, always_off"));
}
