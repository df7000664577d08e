//! A collector that keeps what it is sent, over real gRPC.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    trace::v1::Span,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A test's collector has no reason to fail.
const WORKS: &str = "the test's collector works";

/// What arrived: spans with their resource's `service.name`, and names of metrics.
#[derive(Clone, Default, Debug)]
pub struct Collector {
    /// Spans, each with its service.
    pub spans: Arc<Mutex<Vec<(String, Span)>>>,
    /// Names of metrics.
    pub metric_names: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().expect(WORKS);
        for resource_spans in request.into_inner().resource_spans {
            let resource = resource_spans.resource.unwrap_or_default();
            let service = attribute(&resource.attributes, "service.name").unwrap_or_default();
            for scope in resource_spans.scope_spans {
                spans.extend(scope.spans.into_iter().map(|span| (service.clone(), span)));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let metrics = request.into_inner().resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
        let names = metrics.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.metric_names.lock().expect(WORKS).extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one on a thread and a free port of its own; gives its endpoint.
    pub fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect(WORKS);
        listener.set_nonblocking(true).expect(WORKS);
        let endpoint = format!("http://{}", listener.local_addr().expect(WORKS));
        let collector = self.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect(WORKS);
            runtime.block_on(async move {
                let incoming =
                    TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).expect(WORKS));
                tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(collector.clone()))
                    .add_service(MetricsServiceServer::new(collector))
                    .serve_with_incoming(incoming)
                    .await
                    .expect(WORKS);
            });
        });
        endpoint
    }

    /// The one span of that name, and its service.
    pub fn span(&self, name: &str) -> (String, Span) {
        let spans = self.spans.lock().expect(WORKS);
        let mut found = spans.iter().filter(|(_, span)| span.name == name);
        match (found.next(), found.next()) {
            (Some(span), None) => span.clone(),
            _ => panic!(
                "not one span {name:?} in {:?}",
                spans.iter().map(|(_, s)| &s.name).collect::<Vec<_>>()
            ),
        }
    }
}

/// An attribute's value, as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        any_value::Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    })
}
