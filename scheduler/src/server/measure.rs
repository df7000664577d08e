//! A span and a measure for each request, and an answer where a handler panics.

use std::{any::Any, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sluice_telemetry::{HttpMeasure, ServerFields, record_server_status, server_span};
use tracing::Instrument;

use super::{ApiError, Shared};

/// Measures a request by its route's pattern, never by its path with ids.
pub(super) async fn measure(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let fields = ServerFields {
        method: method.as_str(),
        route: route.as_deref().unwrap_or("none"),
        traceparent: request.headers().get("traceparent").and_then(|value| value.to_str().ok()),
    };
    let span = server_span(&fields);
    let response = next.run(request).instrument(span.clone()).await;
    record_server_status(&span, response.status().as_u16());
    shared.metrics.http_answered(&HttpMeasure {
        method: method.as_str(),
        route: route.as_deref(),
        status_code: response.status().as_u16(),
        duration: begun.elapsed(),
    });
    response
}

/// The answer where a handler panicked; the panic hook has logged where.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    ApiError::internal().into_response()
}
