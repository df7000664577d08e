//! The gRPC door: `sluice.v1.JobService` with the rules, the errors and the waiting of REST, and beside it reflection
//! and health. Only the form differs, so that each method is: read the message, do what REST does, write the message.
//!
//! Not here: the wire contract (`proto`), checks of submissions (`input`), what is done to jobs (`handlers`, `many`).
//!
//! Pages of foreign sites can't reach it as they could REST: browsers don't speak HTTP/2 in clear text.

mod deadline;
mod filter;
mod health;
mod jobs;
mod layers;
mod message;
mod service;
mod status;
mod submission;
mod submit_many;
mod time;

use axum::{Router, middleware};
use sluice_proto::{FILE_DESCRIPTOR_SET, v1::job_service_server::JobServiceServer};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower_http::catch_panic::CatchPanicLayer;

use self::{health::Readiness, service::Jobs};
use crate::{
    SchedulerError, ServerHandle, ServerOptions,
    server::{MAX_REQUEST_BYTES, Protocol, Shared, start},
};

/// Starts gRPC servers.
#[derive(Debug)]
pub struct GrpcServer;

impl GrpcServer {
    /// Binds `options.listen` and starts to answer. The database need not be reachable yet. Of the limits, `head_timeout`
    /// is how long a new connection may be silent, and `body_timeout` how long a stream of jobs may rest.
    pub async fn start(options: ServerOptions) -> Result<ServerHandle, SchedulerError> {
        start(options, Protocol::Grpc, router).await
    }
}

fn router(shared: Shared) -> Router {
    let jobs = JobServiceServer::new(Jobs::new(shared.clone())).max_decoding_message_size(MAX_REQUEST_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let sound = "the descriptors were made by the build";
    Routes::new(jobs)
        .add_service(HealthServer::new(Readiness::new(shared.clone())))
        .add_service(reflection().build_v1().expect(sound))
        // What older tools ask.
        .add_service(reflection().build_v1alpha().expect(sound))
        .prepare()
        .into_axum_router()
        .layer(middleware::from_fn(deadline::keep_deadline))
        .layer(middleware::from_fn_with_state(shared, layers::admit))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(middleware::from_fn(layers::too_large_as_resource_exhausted))
        .layer(middleware::from_fn(layers::trace))
}
