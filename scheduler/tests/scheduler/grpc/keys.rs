//! API keys over gRPC: the same as over REST, by the header `authorization`.

use sluice_domain::{KeyRights, Scope};
use sluice_proto::v1::{CancelRequest, GetRequest, ListRequest, WatchRequest};
use tonic::{Code, IntoRequest, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::fixture::{Grpc, channel_of, chat, codes};
use crate::keys::{Made, make_key, scopes, some_key};

fn by<T>(made: &Made, message: impl IntoRequest<T>) -> Request<T> {
    with(made.key.expose(), message)
}

fn with<T>(key: &str, message: impl IntoRequest<T>) -> Request<T> {
    let mut request = message.into_request();
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

#[tokio::test]
async fn calls_need_a_key_with_the_right_scope_and_reach_its_tenant_only() {
    let grpc = Grpc::new().await;
    let store = &grpc.fixture.store;
    let ours = make_key(store, "ours", KeyRights::all()).await;
    let theirs = make_key(store, "theirs", KeyRights::all()).await;
    let reader = make_key(store, "ours", scopes(&[Scope::Read])).await;
    let mut client = grpc.client.clone();
    let job = client.submit(by(&ours, chat())).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.tenant, "ours");
    let get = || GetRequest { id: job.id.clone(), wait: None };

    let missing = client.get(get()).await.unwrap_err();
    assert_eq!(codes(&missing), (Code::Unauthenticated, "missing_api_key".to_owned()));
    let unknown = client.get(with(some_key().expose(), get())).await.unwrap_err();
    assert_eq!(codes(&unknown), (Code::Unauthenticated, "invalid_api_key".to_owned()));

    assert_eq!(client.get(by(&reader, get())).await.unwrap().into_inner().id, job.id);
    let refused = client.submit(by(&reader, chat())).await.unwrap_err();
    assert_eq!(codes(&refused), (Code::PermissionDenied, "insufficient_scope".to_owned()));
    let refused = client.cancel(by(&reader, CancelRequest { id: job.id.clone() })).await.unwrap_err();
    assert_eq!(codes(&refused), (Code::PermissionDenied, "insufficient_scope".to_owned()));
    let mut many = Request::new(tokio_stream::iter(vec![chat(), chat()]));
    *many.metadata_mut() = by(&reader, get()).metadata().clone();
    let refused = client.submit_many(many).await.unwrap_err();
    assert_eq!(codes(&refused), (Code::PermissionDenied, "insufficient_scope".to_owned()));

    let foreign = client.get(by(&theirs, get())).await.unwrap_err();
    assert_eq!(codes(&foreign), (Code::NotFound, "job_not_found".to_owned()));
    let foreign = client.watch(by(&theirs, WatchRequest { id: job.id.clone() })).await.unwrap_err();
    assert_eq!(codes(&foreign), (Code::NotFound, "job_not_found".to_owned()));
    let listed = client.list(by(&theirs, ListRequest::default())).await.unwrap().into_inner();
    assert_eq!(listed.jobs.len(), 0);
}

#[tokio::test]
async fn health_needs_no_key() {
    let grpc = Grpc::new().await;
    make_key(&grpc.fixture.store, "default", KeyRights::all()).await;
    let mut health = HealthClient::new(channel_of(&grpc.server).await);
    let request = HealthCheckRequest { service: "sluice.v1.JobService".to_owned() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
}
