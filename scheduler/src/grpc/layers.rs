//! What happens around every call: its span, who makes it, an answer where a handler panics, and one status that tonic chooses
//! otherwise than gRPC's own libraries.

use std::any::Any;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderValue;
use sluice_proto::v1::job_service_server::SERVICE_NAME;
use sluice_telemetry::{ServerFields, server_span};
use tonic::{Code, Status};
use tracing::Instrument;

use crate::server::{Shared, peer_of};

const METHODS: [&str; 8] = ["Submit", "SubmitMany", "Get", "List", "Watch", "Cancel", "Replay", "ReplayMany"];
const STATUS_HEADER: &str = "grpc-status";

/// A span for each call of a job, in the client's trace where it sent one.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    if !is_of_jobs(request.uri().path()) {
        return next.run(request).await;
    }
    let span = server_span(&ServerFields {
        method: request.method().as_str(),
        route: request.uri().path(),
        traceparent: request.headers().get("traceparent").and_then(|value| value.to_str().ok()),
    });
    next.run(request).instrument(span).await
}

/// Lets a call in as somebody's, or answers why not. Health and reflection are open: they hold nobody's data.
pub(super) async fn admit(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    if !is_of_service(request.uri().path()) {
        return next.run(request).await;
    }
    let peer = peer_of(request.extensions());
    match shared.access.admit(request.headers(), peer).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => Status::from(refusal).into_http(),
    }
}

/// Whether a path is one of our service's, known or not.
fn is_of_service(path: &str) -> bool {
    path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME)).is_some()
}

fn is_of_jobs(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME)?.strip_prefix('/'))
        .is_some_and(|method| METHODS.contains(&method))
}

/// A message over the limit ends with RESOURCE_EXHAUSTED in gRPC's own libraries, and with OUT_OF_RANGE in tonic. Nothing
/// else here answers OUT_OF_RANGE.
pub(super) async fn too_large_as_resource_exhausted(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(status) = response.headers_mut().get_mut(STATUS_HEADER)
        && *status == HeaderValue::from(Code::OutOfRange as i32)
    {
        *status = HeaderValue::from(Code::ResourceExhausted as i32);
    }
    response
}

/// The answer where a handler panicked; the panic hook has logged where.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Status::internal("something went wrong in Sluice itself").into_http()
}

#[cfg(test)]
mod tests {
    use sluice_proto::FILE_DESCRIPTOR_SET;

    use super::{METHODS, is_of_jobs};

    #[test]
    fn only_known_methods_get_a_span() {
        for method in METHODS {
            assert!(is_of_jobs(&format!("/sluice.v1.JobService/{method}")));
            // The names stand as they are in the compiled contract.
            assert!(FILE_DESCRIPTOR_SET.windows(method.len()).any(|part| part == method.as_bytes()));
        }
        for other in
            ["/", "/sluice.v1.JobService/", "/sluice.v1.JobService/Guess", "/grpc.health.v1.Health/Check"]
        {
            assert!(!is_of_jobs(other), "{other}");
        }
    }
}
