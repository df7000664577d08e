//! `grpc.health.v1.Health`: liveness for the whole server (`""`), readiness for `sluice.v1.JobService`, as `/healthz`
//! and `/readyz` over REST. Asked of the database when somebody asks, so that an idle server asks nothing.

use std::time::Duration;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use sluice_proto::v1::job_service_server::SERVICE_NAME;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use crate::{handlers::readyz::readiness, server::Shared};

/// How often it is looked for somebody who watches.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Answers whether calls can be served.
pub(super) struct Readiness {
    shared: Shared,
}

impl Readiness {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status_of(&self.shared, &request.get_ref().service).await {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no such service")),
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (shared, service) = (self.shared.clone(), request.into_inner().service);
        let stopping = shared.stopping.clone();
        let looks = stream::unfold((shared, service, None), |(shared, service, told)| async move {
            let status = next_status(&shared, &service, told).await;
            let response = HealthCheckResponse { status: status.into() };
            Some((Ok(response), (shared, service, Some(status))))
        });
        Ok(Response::new(looks.take_until(stopping.cancelled_owned()).boxed()))
    }
}

/// The status, once it is another than `told`.
async fn next_status(shared: &Shared, service: &str, told: Option<ServingStatus>) -> ServingStatus {
    loop {
        if told.is_some() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let status = status_of(shared, service).await;
        if told != Some(status) {
            return status;
        }
    }
}

async fn status_of(shared: &Shared, service: &str) -> ServingStatus {
    match service {
        "" => ServingStatus::Serving,
        SERVICE_NAME if readiness(shared).await.is_ok() => ServingStatus::Serving,
        SERVICE_NAME => ServingStatus::NotServing,
        _ => ServingStatus::ServiceUnknown,
    }
}
