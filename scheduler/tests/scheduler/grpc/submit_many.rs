//! Many jobs over one stream.

use std::time::Duration;

use sluice_proto::v1::{SubmitManyResponse, SubmitRequest, SubmitStatus};
use sluice_scheduler::GrpcServer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::fixture::{CHAT, Client, Grpc, chat, chat_with_key, client_of};
use crate::fixture::options;

async fn submit(client: &Client, requests: Vec<SubmitRequest>) -> SubmitManyResponse {
    client.clone().submit_many(tokio_stream::iter(requests)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_bad_job_stops_none_of_the_others() {
    let grpc = Grpc::new().await;
    let requests = vec![
        chat_with_key("a"),
        SubmitRequest { priority: Some(9), ..chat() },
        chat_with_key("a"),
        SubmitRequest { model: Some("other".to_owned()), ..chat_with_key("a") },
        chat(),
    ];
    let answer = submit(&grpc.client, requests).await;
    assert_eq!((answer.created, answer.existing, answer.refused), (2, 1, 2));
    let told: Vec<_> = answer
        .results
        .iter()
        .map(|result| {
            let error = result.error.as_ref();
            let why = error.map(|error| (Code::from(error.status_code), error.code.as_str(), error.param()));
            (result.index, result.status(), why)
        })
        .collect();
    let refused = SubmitStatus::Unspecified;
    assert_eq!(
        told,
        [
            (0, SubmitStatus::Created, None),
            (1, refused, Some((Code::InvalidArgument, "invalid_value", "/priority"))),
            (2, SubmitStatus::Existing, None),
            (3, refused, Some((Code::AlreadyExists, "idempotency_key_reused", "/idempotency_key"))),
            (4, SubmitStatus::Created, None),
        ]
    );
    assert_eq!(answer.results[0].id, answer.results[2].id);
    assert_eq!((answer.results[1].id.as_str(), answer.results[3].id.as_str()), ("", ""));
    let (_, job) = grpc.fixture.get_json(&format!("/v1/jobs/{}", answer.results[4].id)).await;
    assert_eq!(job["state"], "queued");
}

#[tokio::test]
async fn no_jobs_are_answered_with_no_results() {
    let grpc = Grpc::new().await;
    assert_eq!(submit(&grpc.client, Vec::new()).await, SubmitManyResponse::default());
}

#[tokio::test]
async fn thousands_of_jobs_are_stored_in_batches() {
    let grpc = Grpc::new().await;
    let answer = submit(&grpc.client, vec![chat(); 3_217]).await;
    assert_eq!((answer.created, answer.refused, answer.results.len()), (3_217, 0, 3_217));
    let indexes = answer.results.iter().map(|result| result.index);
    assert!(indexes.eq(0..3_217));
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.ready")
        .fetch_one(grpc.fixture.database.pool())
        .await
        .unwrap();
    assert_eq!(stored, 3_217);
}

#[tokio::test]
async fn jobs_are_stored_while_the_stream_goes_on() {
    let grpc = Grpc::new().await;
    let (sender, requests) = mpsc::channel(1);
    let mut client = grpc.client.clone();
    let answer = tokio::spawn(async move { client.submit_many(ReceiverStream::new(requests)).await });
    sender.send(chat()).await.unwrap();
    sluice_testkit::wait_until("the first job to be stored", Duration::from_secs(10), async || {
        !grpc.fixture.get_json("/v1/jobs").await.1["data"].as_array().unwrap().is_empty()
    })
    .await;
    sender.send(chat()).await.unwrap();
    drop(sender);
    assert_eq!(answer.await.unwrap().unwrap().into_inner().created, 2);
}

#[tokio::test]
async fn a_stream_that_rests_too_long_is_answered_as_far_as_it_came() {
    let grpc = Grpc::new().await;
    let mut impatient = options(grpc.fixture.store.clone());
    impatient.limits.body_timeout = Duration::from_millis(300);
    let server = GrpcServer::start(impatient).await.unwrap();
    let mut client = client_of(&server).await;
    let (sender, requests) = mpsc::channel(1);
    sender.send(chat()).await.unwrap();
    let answer = client.submit_many(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let why = answer.results[1].error.as_ref().map(|error| error.code.as_str());
    assert_eq!((answer.created, answer.results.len(), why), (1, 2, Some("incomplete_body")));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_and_keeps_what_came_before() {
    let grpc = Grpc::new().await;
    let large = format!("{CHAT}{}", " ".repeat(10 * 1024 * 1024));
    let large = SubmitRequest { body: large.into(), ..SubmitRequest::default() };
    let answer = submit(&grpc.client, vec![chat(), large, chat()]).await;
    let error = answer.results[1].error.as_ref().unwrap();
    assert_eq!((answer.created, answer.results.len()), (1, 2));
    assert_eq!(
        (Code::from(error.status_code), error.code.as_str()),
        (Code::ResourceExhausted, "request_too_large")
    );
}
