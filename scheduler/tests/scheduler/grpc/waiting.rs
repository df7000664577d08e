//! Waiting for jobs and watching them, with deadlines.

use std::time::{Duration, Instant};

use sluice_proto::v1::{GetRequest, JobState, WatchRequest};
use sluice_scheduler::GrpcServer;
use sluice_store::{Store, StoreOptions};
use sluice_testkit::wait_until;
use tonic::{Code, Request};

use super::fixture::{Grpc, client_of};
use crate::fixture::options;

fn waiting_for(id: &str, wait: Duration) -> GetRequest {
    GetRequest { id: id.to_owned(), wait: Some(wait.try_into().unwrap()) }
}

#[tokio::test]
async fn a_wait_ends_with_the_job() {
    let grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let (mut client, request) = (grpc.client.clone(), waiting_for(&id, Duration::from_secs(30)));
    let begun = Instant::now();
    let waiting = tokio::spawn(async move { client.get(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    grpc.fixture.work_one(b"{\"ok\":1}").await;
    let job = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(job.result.unwrap().body.unwrap(), &b"{\"ok\":1}"[..]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_the_job_as_it_stands() {
    let mut grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let job = grpc.client.get(waiting_for(&id, Duration::from_millis(300))).await.unwrap().into_inner();
    assert_eq!(job.state(), JobState::Queued);
}

#[tokio::test]
async fn a_wait_longer_than_the_deadline_exceeds_it() {
    let grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let begun = Instant::now();
    // Sent as raw HTTP/2, since tonic's client keeps the deadline itself and would hide what the server answers.
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let message = prost_frame(&waiting_for(&id, Duration::from_secs(30)));
    let answer = http2
        .post(format!("http://{}/sluice.v1.JobService/Get", grpc.server.addr()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "300m")
        .body(message)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["grpc-status"], (Code::DeadlineExceeded as i32).to_string().as_str());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let mut request = Request::new(waiting_for(&id, Duration::from_secs(30)));
    request.set_timeout(Duration::from_millis(300));
    let status = grpc.client.clone().get(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
}

/// A message as gRPC frames it.
fn prost_frame(message: &impl sluice_proto::Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(encoded.len()).unwrap().to_be_bytes());
    framed.extend(encoded);
    framed
}

#[tokio::test]
async fn changes_are_streamed_until_the_end() {
    let mut grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let mut states = grpc.client.watch(WatchRequest { id: id.clone() }).await.unwrap().into_inner();
    let first = states.message().await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.state()), (id.as_str(), JobState::Queued));
    grpc.fixture.work_one(b"{}").await;
    let mut last = first;
    while let Some(job) = states.message().await.unwrap() {
        last = job;
    }
    assert_eq!((last.state(), last.result.unwrap().body), (JobState::Succeeded, None));
}

#[tokio::test]
async fn a_watch_keeps_its_deadline() {
    let mut grpc = Grpc::new().await;
    let mut request = Request::new(WatchRequest { id: grpc.submit().await });
    request.metadata_mut().insert("grpc-timeout", "400m".parse().unwrap());
    let mut watched = grpc.client.watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().state(), JobState::Queued);
    let status = watched.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn a_dropped_watch_frees_its_place() {
    let grpc = Grpc::new().await;
    let id = grpc.submit().await;
    // A server whose questions can be told from those of others.
    let mut named = StoreOptions::new(grpc.fixture.database.url());
    named.application_name = "watched".to_owned();
    let server = GrpcServer::start(options(Store::connect(&named).await.unwrap())).await.unwrap();
    let asked_last = async || -> Option<String> {
        sqlx::query_scalar(
            "SELECT max(query_start)::text FROM pg_stat_activity
             WHERE application_name = 'watched' AND query LIKE '%job_details_read%'",
        )
        .fetch_one(grpc.fixture.database.pool())
        .await
        .unwrap()
    };
    let mut states = client_of(&server).await.watch(WatchRequest { id }).await.unwrap().into_inner();
    states.message().await.unwrap().unwrap();
    let first = asked_last().await;
    wait_until("the hub to ask for the watcher", Duration::from_secs(10), async || {
        asked_last().await != first
    })
    .await;
    drop(states);
    // One question may be under way; then there is nobody to ask for.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let last = asked_last().await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(asked_last().await, last);
}

#[tokio::test]
async fn a_stop_answers_those_who_wait_and_ends_watches() {
    let grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let mut states = grpc.client.clone().watch(WatchRequest { id: id.clone() }).await.unwrap().into_inner();
    states.message().await.unwrap().unwrap();
    let (mut client, request) = (grpc.client.clone(), waiting_for(&id, Duration::from_secs(50)));
    let waiting = tokio::spawn(async move { client.get(request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    grpc.server.shutdown(Duration::from_secs(10)).await;
    assert_eq!(waiting.await.unwrap().unwrap().into_inner().state(), JobState::Queued);
    assert_eq!(states.message().await.unwrap_err().code(), Code::Unavailable);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
