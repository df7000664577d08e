//! What clients can't do to the server, and what it says of itself.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_scheduler::{Keyless, SchedulerError, Server, openapi_json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::{Fixture, answer, chat, options};

/// Sends bytes and reads until the server closes the connection.
async fn raw(fixture: &Fixture, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
    // A server that has seen enough may close before all was sent.
    let _ = stream.write_all(sent).await;
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn slow_clients_are_cut() {
    let fixture = Fixture::with(|options| {
        options.limits.head_timeout = Duration::from_millis(300);
        options.limits.body_timeout = Duration::from_millis(300);
    })
    .await;
    let begun = Instant::now();
    assert_eq!(raw(&fixture, b"").await, "");
    assert_eq!(raw(&fixture, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await, "");
    let answer =
        raw(&fixture, b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let answer =
        raw(&fixture, b"POST /v1/jobs/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").await;
    assert!(answer.contains("the next line did not come in time"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let fixture = Fixture::new().await;
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let answer = raw(&fixture, request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(fixture.get("/healthz").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn requests_of_web_pages_are_refused() {
    let fixture = Fixture::new().await;
    let (status, error) = answer(fixture.get("/v1/jobs").header("Host", "evil.example")).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::FORBIDDEN, &json!("host_refused")));
    let (status, error) = answer(fixture.get("/v1/jobs").header("Origin", "http://localhost")).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::FORBIDDEN, &json!("origin_refused")));
    assert_eq!(answer(fixture.get("/v1/jobs").header("Host", "localhost:1")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn without_keys_only_loopback_is_listened_on_unless_it_is_allowed() {
    let fixture = Fixture::new().await;
    let mut open = options(fixture.store.clone());
    open.listen = "0.0.0.0:0".parse().unwrap();
    let refused = Server::start(open.clone()).await.unwrap_err();
    assert!(matches!(refused, SchedulerError::KeylessElsewhere(_)));
    open.keyless = Keyless::AnyAddress;
    let server = Server::start(open).await.unwrap();
    let url = format!("http://127.0.0.1:{}/v1/jobs", server.addr().port());
    assert_eq!(answer(fixture.client.get(&url).header("Host", "sluice.example")).await.0, StatusCode::OK);
    assert_eq!(answer(fixture.client.get(&url).header("Origin", "http://x")).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn further_connections_wait_for_a_place_where_something_is_asked_on_all() {
    let fixture = Fixture::with(|options| options.limits.connections = 1).await;
    let mut held = TcpStream::connect(fixture.server.addr()).await.unwrap();
    held.write_all(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waiting = tokio::spawn(fixture.get("/healthz").send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(held);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn connections_on_which_nothing_is_asked_shut_out_nobody() {
    let fixture = Fixture::with(|options| options.limits.connections = 50).await;
    let mut slow = Vec::new();
    // Some say nothing, some a head letter by letter, some asked once and stay.
    for number in 0..200 {
        let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap(),
            _ => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap(),
        }
        slow.push(stream);
    }
    let begun = Instant::now();
    for _ in 0..20 {
        // A connection of its own for each.
        let get = crate::fixture::client().get(format!("{}/healthz", fixture.base));
        assert_eq!(get.send().await.unwrap().status(), StatusCode::OK);
    }
    // Far less than the slow ones have for their heads.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_document_lists_every_route() {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            routes.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes.sort();
    let expected = [
        "DELETE /v1/files/{id}",
        "GET /",
        "GET /healthz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /readyz",
        "GET /v1/batches",
        "GET /v1/batches/{id}",
        "GET /v1/budgets",
        "GET /v1/files",
        "GET /v1/files/{id}",
        "GET /v1/files/{id}/content",
        "GET /v1/jobs",
        "GET /v1/jobs/{id}",
        "GET /v1/jobs/{id}/attempts",
        "GET /v1/jobs/{id}/events",
        "GET /v1/jobs/{id}/explain",
        "GET /v1/jobs/{id}/result",
        "GET /v1/jobs/{id}/stream",
        "GET /v1/limits",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "GET /v1/queues",
        "GET /v1/upstreams",
        "GET /v1/webhooks",
        "GET /v1/workers",
        "POST /v1/accounts/{account}/resume",
        "POST /v1/batches",
        "POST /v1/batches/{id}/cancel",
        "POST /v1/cancellations",
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/embeddings",
        "POST /v1/files",
        "POST /v1/images/generations",
        "POST /v1/jobs",
        "POST /v1/jobs/bulk",
        "POST /v1/jobs/{id}/cancel",
        "POST /v1/jobs/{id}/release",
        "POST /v1/jobs/{id}/replay",
        "POST /v1/queues/{queue}/pause",
        "POST /v1/queues/{queue}/resume",
        "POST /v1/releases",
        "POST /v1/replays",
        "POST /v1/upstreams/{upstream}/pause",
        "POST /v1/upstreams/{upstream}/resume",
        "POST /v1/webhooks/resume",
        "POST /v1/webhooks/{id}/redeliver",
    ];
    assert_eq!(routes, expected);
    for schema in
        ["Job", "JobResult", "JobError", "Error", "Submission", "JobList", "Explanation", "ManyRequest"]
    {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
}

#[tokio::test]
async fn the_server_shows_its_health_its_metrics_and_its_page() {
    let fixture = Fixture::new().await;
    fixture.submit(&chat()).await;
    let text = async |path: &str| {
        let response = fixture.get(path).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(text("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(text("/readyz").await.0, 200);
    let (_, metrics) = text("/metrics").await;
    assert!(metrics.contains("sluice_jobs{"), "{metrics}");
    assert!(metrics.contains("http_route=\"/v1/jobs\""), "{metrics}");
    let (status, page) = text("/").await;
    assert_eq!(status, 200);
    for elsewhere in ["http://", "https://", "src="] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}
