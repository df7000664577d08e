//! A gRPC server beside the REST server of [`Fixture`], on the same database.

use sluice_proto::v1::{SubmitRequest, job_service_client::JobServiceClient};
use sluice_scheduler::{GrpcServer, ServerHandle};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::fixture::{Fixture, options};

pub type Client = JobServiceClient<Channel>;

pub const CHAT: &str = r#"{"model":"deepseek-flash",  "messages":[{"role":"user","content":"hello"}]}"#;

pub struct Grpc {
    pub fixture: Fixture,
    pub server: ServerHandle,
    pub client: Client,
}

impl Grpc {
    pub async fn new() -> Self {
        let fixture = Fixture::new().await;
        let server = GrpcServer::start(options(fixture.store.clone())).await.unwrap();
        let client = client_of(&server).await;
        Self { fixture, server, client }
    }

    /// Submits a job and returns its id.
    pub async fn submit(&self) -> String {
        self.client.clone().submit(chat()).await.unwrap().into_inner().job.unwrap().id
    }
}

pub async fn channel_of(server: &ServerHandle) -> Channel {
    Channel::from_shared(format!("http://{}", server.addr())).unwrap().connect().await.unwrap()
}

pub async fn client_of(server: &ServerHandle) -> Client {
    JobServiceClient::new(channel_of(server).await)
}

/// A job that can be submitted.
pub fn chat() -> SubmitRequest {
    SubmitRequest { body: CHAT.into(), ..SubmitRequest::default() }
}

/// A job with an idempotency key.
pub fn chat_with_key(key: &str) -> SubmitRequest {
    SubmitRequest { idempotency_key: Some(key.to_owned()), ..chat() }
}

/// An error's status code and its stable code.
pub fn codes(status: &Status) -> (Code, String) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    (status.code(), reason.unwrap_or_default())
}

/// The field that an error blames.
pub fn culprit(status: &Status) -> Option<String> {
    status.get_details_bad_request()?.field_violations.pop().map(|violation| violation.field)
}
