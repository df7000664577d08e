//! The database is away.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_scheduler::Server;
use sluice_store::{Store, StoreOptions};
use tokio::net::TcpListener;

use crate::fixture::{answer, chat, client, options};

fn away(port: u16) -> Store {
    let mut options = StoreOptions::new(format!("postgres://nobody@127.0.0.1:{port}/none"));
    options.acquire_timeout = Duration::from_secs(2);
    Store::connect_lazily(&options).unwrap()
}

async fn expect_fast_503(store: Store) {
    let server = Server::start(options(store)).await.unwrap();
    let (client, base) = (client(), format!("http://{}", server.addr()));
    let begun = Instant::now();
    let submit = client.post(format!("{base}/v1/jobs")).body(chat().to_string()).send();
    let (submit, (read, _), (list, _), (ready, _)) = tokio::join!(
        submit,
        answer(client.get(format!("{base}/v1/jobs/0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b?wait=30s"))),
        answer(client.get(format!("{base}/v1/queues"))),
        answer(client.get(format!("{base}/readyz"))),
    );
    let submit = submit.unwrap();
    assert_eq!([submit.status(), read, list, ready], [StatusCode::SERVICE_UNAVAILABLE; 4]);
    assert_eq!(submit.headers()["retry-after"], "1");
    let error: Value = serde_json::from_str(&submit.text().await.unwrap()).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["type"]),
        (&json!("database_unavailable"), &json!("server_error"))
    );
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(client.get(format!("{base}/healthz")).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(client.get(format!("{base}/metrics")).send().await.unwrap().status(), StatusCode::OK);

    let lines = format!("{}\n", chat()).repeat(3);
    let (status, refused) = answer(client.post(format!("{base}/v1/jobs/bulk")).body(lines)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused["error"]["code"], json!("database_unavailable"));
}

#[tokio::test]
async fn a_database_that_is_gone_answers_503_fast() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    expect_fast_503(away(port)).await;
}

#[tokio::test]
async fn a_database_that_says_nothing_answers_503_fast() {
    // Connections are taken by the kernel and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    expect_fast_503(away(listener.local_addr().unwrap().port())).await;
    drop(listener);
}
