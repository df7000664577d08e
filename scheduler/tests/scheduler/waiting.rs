//! Waiting for the end of jobs, and watching them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::json;
use sluice_store::{Store, StoreOptions};
use sluice_testkit::wait_until;

use crate::fixture::{Fixture, answer, chat};

#[tokio::test]
async fn a_wait_ends_with_the_job() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let begun = Instant::now();
    let waiting = tokio::spawn(answer(fixture.get(&format!("/v1/jobs/{id}?wait=30s"))));
    tokio::time::sleep(Duration::from_millis(200)).await;
    fixture.work_one(b"{\"ok\":1}").await;
    let (status, job) = waiting.await.unwrap();
    assert_eq!((status, &job["result"]["body"]), (StatusCode::OK, &json!({"ok": 1})));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_the_job_as_it_stands() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let begun = Instant::now();
    let (status, job) = fixture.get_json(&format!("/v1/jobs/{id}?wait=300ms")).await;
    assert_eq!((status, &job["state"]), (StatusCode::OK, &json!("queued")));
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn two_connections_serve_two_hundred_who_wait() {
    let fixture = Fixture::with(|_| {}).await;
    let mut narrow = StoreOptions::new(fixture.database.url());
    narrow.max_connections = 2;
    let narrow = Store::connect(&narrow).await.unwrap();
    let server = sluice_scheduler::Server::start(crate::fixture::options(narrow)).await.unwrap();
    let id = fixture.submit(&chat()).await;
    let url = format!("http://{}/v1/jobs/{id}", server.addr());
    let waiting: Vec<_> =
        (0..200).map(|_| tokio::spawn(answer(fixture.client.get(format!("{url}?wait=30s"))))).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Everybody waits, and a read still gets its connection.
    let begun = Instant::now();
    assert_eq!(answer(fixture.client.get(&url)).await.0, StatusCode::OK);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    fixture.work_one(b"{}").await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().1["state"], "succeeded");
    }
}

#[tokio::test]
async fn changes_are_streamed_until_the_end() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let response = fixture.get(&format!("/v1/jobs/{id}/events")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("\"state\":\"queued\""));
    fixture.work_one(b"{}").await;
    let mut rest = Vec::new();
    while let Some(chunk) = stream.next().await {
        rest.extend_from_slice(&chunk.unwrap());
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("\"state\":\"succeeded\""), "{rest}");
}

#[tokio::test]
async fn a_stop_answers_those_who_wait() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let waiting = tokio::spawn(answer(fixture.get(&format!("/v1/jobs/{id}?wait=60s"))));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (client, url) = (fixture.client.clone(), format!("{}/healthz", fixture.base));
    let begun = Instant::now();
    fixture.server.shutdown(Duration::from_secs(10)).await;
    assert_eq!(waiting.await.unwrap().1["state"], "queued");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    wait_until("the port to be closed", Duration::from_secs(5), async || {
        client.get(&url).send().await.is_err()
    })
    .await;
}
