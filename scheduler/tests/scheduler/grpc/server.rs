//! The server itself: who may reach it, reflection, health, a database that is away.

use std::time::{Duration, Instant};

use sluice_proto::v1::GetRequest;
use sluice_scheduler::{GrpcServer, SchedulerError};
use sluice_store::{Store, StoreOptions};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::fixture::{Grpc, channel_of, chat, client_of, codes};
use crate::fixture::options;

const SERVICE: &str = "sluice.v1.JobService";

async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

async fn reflect(channel: Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn reflection_lists_the_service_and_shows_its_file() {
    let grpc = Grpc::new().await;
    let channel = channel_of(&grpc.server).await;
    let listed = reflect(channel.clone(), MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", SERVICE]);
    let file = reflect(channel, MessageRequest::FileContainingSymbol(SERVICE.to_owned())).await;
    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
}

#[tokio::test]
async fn health_tells_liveness_and_readiness() {
    let grpc = Grpc::new().await;
    let channel = channel_of(&grpc.server).await;
    assert_eq!(health(&channel, "").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&channel, SERVICE).await, Ok(ServingStatus::Serving));
    assert_eq!(health(&channel, "other").await, Err(Code::NotFound));
    let request = HealthCheckRequest { service: SERVICE.to_owned() };
    let mut watched = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn a_database_that_is_gone_is_unavailable_fast() {
    let mut away = StoreOptions::new("postgres://nobody@127.0.0.1:1/none");
    away.acquire_timeout = Duration::from_secs(2);
    let server = GrpcServer::start(options(Store::connect_lazily(&away).unwrap())).await.unwrap();
    let (client, channel) = (client_of(&server).await, channel_of(&server).await);
    let begun = Instant::now();
    let id = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".to_owned();
    let (mut submitter, mut reader, mut bulk) = (client.clone(), client.clone(), client);
    let (submit, get, many, ready) = tokio::join!(
        submitter.submit(chat()),
        reader.get(GetRequest { id, wait: None }),
        bulk.submit_many(tokio_stream::iter([chat(), chat()])),
        health(&channel, SERVICE),
    );
    let unavailable = (Code::Unavailable, "database_unavailable".to_owned());
    assert_eq!(codes(&submit.unwrap_err()), unavailable);
    assert_eq!(codes(&get.unwrap_err()), unavailable);
    assert_eq!(ready, Ok(ServingStatus::NotServing));
    assert_eq!(health(&channel, "").await, Ok(ServingStatus::Serving));
    // Nobody knows who asks, and so nothing of it was read.
    assert_eq!(codes(&many.unwrap_err()), unavailable);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn other_machines_are_kept_out_without_keys() {
    let grpc = Grpc::new().await;
    let mut everywhere = options(grpc.fixture.store.clone());
    everywhere.listen = "0.0.0.0:0".parse().unwrap();
    let refused = GrpcServer::start(everywhere).await.unwrap_err();
    assert!(matches!(refused, SchedulerError::KeylessElsewhere(_)), "{refused}");
}

#[tokio::test]
async fn a_silent_connection_is_cut() {
    let grpc = Grpc::new().await;
    let mut impatient = options(grpc.fixture.store.clone());
    impatient.limits.head_timeout = Duration::from_millis(300);
    let server = GrpcServer::start(impatient).await.unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}
