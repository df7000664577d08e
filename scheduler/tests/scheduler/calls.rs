//! The OpenAI-compatible endpoints: calls that wait, and clients that go away.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sluice_domain::{ApiPath, Decision, JobFilter, JobId, JobState};
use sluice_store::Bodies;
use sluice_testkit::wait_for;
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, answer};

const SOON: Duration = Duration::from_secs(10);
const CHAT: &str = r#"{"model" : "deepseek-flash", "messages": [{"role": "user", "content": "hello"}]}"#;

fn send(request: RequestBuilder) -> JoinHandle<Response> {
    tokio::spawn(async move { request.send().await.unwrap() })
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// The newest job, as soon as there are `count`.
async fn stored(fixture: &Fixture, count: usize) -> JobId {
    wait_for("the call to be stored", SOON, async || {
        let ids =
            fixture.store.job_ids_matching(&fixture.tenant, &JobFilter::default(), None, 10).await.unwrap();
        (ids.len() == count).then(|| ids[0])
    })
    .await
}

/// Waits until a client's departure has been noted.
async fn left(fixture: &Fixture, count: i64) {
    wait_for("the client to be missed", SOON, async || {
        let noted: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.left_calls")
            .fetch_one(fixture.database.pool())
            .await
            .unwrap();
        (noted == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_is_stored_and_answered_with_the_provider_s_bytes() {
    let fixture = Fixture::new().await;
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations"] {
        let request =
            fixture.post(path, CHAT).header("x-sluice-priority", "5").header("x-sluice-tag-team", "a");
        let waiting = send(request.header("x-sluice-queue", "slow"));
        let incarnation = fixture.incarnation().await;
        let id = wait_for("the call to be stored", SOON, async || {
            let filter = JobFilter { state: Some(JobState::Queued), ..Default::default() };
            fixture.store.job_ids_matching(&fixture.tenant, &filter, None, 1).await.unwrap().pop()
        })
        .await;
        let leased = fixture.lease_one(incarnation).await;
        assert_eq!((leased.job_id, leased.body.as_slice()), (id, CHAT.as_bytes()));
        assert_eq!((leased.path.as_str(), leased.priority.get(), leased.queue.as_str()), (path, 5, "slow"));
        fixture.settle(incarnation, &leased, Decision::Succeed, Some(b"{\"ok\" : 1.10}")).await;
        let response = waiting.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-type"), "application/json");
        assert_eq!(header(&response, "x-sluice-job-id"), id.to_string());
        assert_eq!(header(&response, "x-request-id"), "req-1");
        assert_eq!(response.text().await.unwrap(), "{\"ok\" : 1.10}");
        let job = fixture.store.job(&fixture.tenant, id, Bodies::LeftOut).await.unwrap().unwrap();
        assert_eq!(job.tags.pairs()["team"], "a");
        assert_eq!(job.path, ApiPath::new(path).unwrap());
    }
}

/// What others say must not become headers of ours: neither a provider's id of a request, nor what clients name things.
#[tokio::test]
async fn what_others_say_stays_out_of_the_headers() {
    let fixture = Fixture::new().await;
    let evil = "r\r\nSet-Cookie: a=b\r\n\r\n<script>";
    let request = || fixture.post("/v1/chat/completions", CHAT).header("idempotency-key", "k");
    let waiting = send(request());
    stored(&fixture, 1).await;
    fixture.work_one(b"{}").await;
    waiting.await.unwrap();
    // As a provider's header can't be, and a damaged database may.
    sqlx::query("ALTER TABLE sluice.done DISABLE TRIGGER USER")
        .execute(fixture.database.pool())
        .await
        .unwrap();
    sqlx::query("UPDATE sluice.done SET request_id = $1")
        .bind(evil)
        .execute(fixture.database.pool())
        .await
        .unwrap();
    let known = request().send().await.unwrap();
    assert_eq!((known.status(), header(&known, "x-sluice-known")), (StatusCode::OK, "true"));
    assert!(known.headers().get("set-cookie").is_none(), "{:?}", known.headers());
    assert_eq!(known.text().await.unwrap(), "{}");
    for (path, body) in [
        (format!("/v1/jobs?queue={}", "q%0d%0aSet-Cookie:%20a=b"), None),
        (format!("/v1/models/{}", "m%0d%0aSet-Cookie:%20a=b"), None),
        (format!("/v1/files/{}", "f%0d%0aSet-Cookie:%20a=b"), None),
        ("/v1/chat/completions".to_owned(), Some(json!({"model": evil, "messages": []}))),
        ("/v1/jobs".to_owned(), Some(json!({"body": {"model": "m"}, "queue": evil}))),
        (
            "/v1/jobs".to_owned(),
            Some(json!({"body": {"model": "m"}, "webhook": format!("https://e.com/{evil}")})),
        ),
    ] {
        let request = match &body {
            Some(body) => fixture.post(&path, body.to_string()),
            None => fixture.get(&path),
        };
        let response = request.send().await.unwrap();
        assert!(response.status().is_client_error() || body.is_none(), "{path}: {}", response.status());
        assert!(response.headers().get("set-cookie").is_none(), "{path}: {:?}", response.headers());
        let kind = header(&response, "content-type").to_owned();
        assert!(kind.starts_with("application/json"), "{path}: {kind}");
    }
}

#[tokio::test]
async fn a_failed_call_is_not_to_be_repeated() {
    let fixture = Fixture::new().await;
    let waiting = send(fixture.post("/v1/chat/completions", CHAT));
    let id = stored(&fixture, 1).await;
    fixture.fail_one().await;
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&response, "x-should-retry"), "false");
    assert_eq!(header(&response, "x-sluice-job-id"), id.to_string());
    let error: Value = response.json().await.unwrap();
    let message = format!("the job {id} failed: the upstream answered 500");
    assert_eq!(
        error,
        json!({"error": {"message": message, "type": "server_error", "param": null, "code": "server_error"}})
    );
}

#[tokio::test]
async fn a_cancelled_call_says_so() {
    let fixture = Fixture::new().await;
    let waiting = send(fixture.post("/v1/chat/completions", CHAT));
    let id = stored(&fixture, 1).await;
    let (status, _) = answer(fixture.post(&format!("/v1/jobs/{id}/cancel"), "")).await;
    assert_eq!(status, StatusCode::OK);
    let response = waiting.await.unwrap();
    assert_eq!((response.status(), header(&response, "x-should-retry")), (StatusCode::CONFLICT, "false"));
}

#[tokio::test]
async fn a_client_that_went_away_gets_its_answer_by_its_key() {
    let fixture = Fixture::new().await;
    let request = || fixture.post("/v1/chat/completions", CHAT).header("idempotency-key", "order-17");
    let waiting = send(request());
    stored(&fixture, 1).await;
    waiting.abort();
    fixture.work_one(b"{\"n\":1}").await;
    let response = request().send().await.unwrap();
    assert_eq!(header(&response, "x-sluice-known"), "true");
    assert_eq!(response.text().await.unwrap(), "{\"n\":1}");
    stored(&fixture, 1).await;
    let other =
        fixture.post("/v1/chat/completions", r#"{"model":"m"}"#).header("idempotency-key", "order-17");
    assert_eq!(answer(other).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_repetition_joins_the_job_whose_client_went_away() {
    let fixture = Fixture::new().await;
    let request = |count: &str| {
        fixture
            .post("/v1/chat/completions", CHAT)
            .bearer_auth("sk-a")
            .header("x-stainless-retry-count", count.to_owned())
    };
    let first = send(request("0"));
    let id = stored(&fixture, 1).await;
    first.abort();
    left(&fixture, 1).await;
    // Another body, another caller and a first request are no repetitions.
    let others = [
        send(fixture.post("/v1/chat/completions", r#"{"model":"m"}"#).header("x-stainless-retry-count", "1")),
        send(fixture.post("/v1/chat/completions", CHAT).header("x-stainless-retry-count", "1")),
        send(request("0")),
    ];
    stored(&fixture, 4).await;
    let again = send(request("1"));
    left(&fixture, 0).await;
    // It goes away, too, and comes back once more.
    again.abort();
    left(&fixture, 1).await;
    let again = send(request("2"));
    left(&fixture, 0).await;
    for _ in 0..4 {
        fixture.work_one(b"{\"ok\":1}").await;
    }
    let response = again.await.unwrap();
    assert_eq!(header(&response, "x-sluice-job-id"), id.to_string());
    assert_eq!((response.status(), header(&response, "x-sluice-known")), (StatusCode::OK, "true"));
    for other in others {
        let other = other.await.unwrap();
        assert_eq!((other.status(), header(&other, "x-sluice-known")), (StatusCode::OK, ""));
    }
    stored(&fixture, 4).await;
}

#[tokio::test]
async fn of_two_that_went_away_each_repetition_joins_one() {
    let fixture = Fixture::new().await;
    let request = |count: &str| {
        fixture.post("/v1/embeddings", CHAT).header("x-stainless-retry-count", count.to_owned())
    };
    let first = [send(request("0")), send(request("0"))];
    stored(&fixture, 2).await;
    for first in first {
        first.abort();
    }
    left(&fixture, 2).await;
    let again = [send(request("1")), send(request("1"))];
    left(&fixture, 0).await;
    fixture.work_one(b"{}").await;
    fixture.work_one(b"{}").await;
    let mut answered = Vec::new();
    for again in again {
        answered.push(header(&again.await.unwrap(), "x-sluice-job-id").to_owned());
    }
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 2);
    stored(&fixture, 2).await;
}

#[tokio::test]
async fn a_stop_sends_clients_away_and_they_find_their_calls_elsewhere() {
    let fixture = Fixture::new().await;
    let other =
        sluice_scheduler::Server::start(crate::fixture::options(fixture.store.clone())).await.unwrap();
    let waiting = send(fixture.post("/v1/chat/completions", CHAT));
    let id = stored(&fixture, 1).await;
    fixture.server.shutdown(SOON).await;
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((header(&response, "retry-after"), header(&response, "x-should-retry")), ("1", ""));
    let url = format!("http://{}/v1/chat/completions", other.addr());
    let again = send(fixture.client.post(url).body(CHAT).header("x-stainless-retry-count", "1"));
    wait_for("the call to be joined", SOON, async || {
        let noted: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.left_calls")
            .fetch_one(fixture.database.pool())
            .await
            .unwrap();
        (noted == 0).then_some(())
    })
    .await;
    let store = &fixture.store;
    let board = store.board(None, None).await.unwrap();
    assert_eq!(board.iter().filter(|entry| entry.age.is_some()).count(), 1);
    let (status, _) =
        answer(fixture.client.post(format!("http://{}/v1/jobs/{id}/cancel", other.addr()))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(header(&again.await.unwrap(), "x-sluice-job-id"), id.to_string());
}

#[tokio::test]
async fn an_answer_that_is_there_is_given_as_a_stream_to_who_wants_one() {
    let fixture = Fixture::new().await;
    let body = r#"{"model":"deepseek-flash","stream":true,"messages":[]}"#;
    let waiting = send(fixture.post("/v1/chat/completions", body));
    stored(&fixture, 1).await;
    let completion = json!({"id": "c", "object": "chat.completion", "choices":
        [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]});
    fixture.work_one(completion.to_string().as_bytes()).await;
    let response = waiting.await.unwrap();
    assert_eq!(header(&response, "content-type"), "text/event-stream");
    let text = response.text().await.unwrap();
    assert!(text.contains("\"content\":\"hi\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn what_can_not_be_called_is_refused_in_openai_s_form() {
    let fixture = Fixture::new().await;
    for (request, status, code) in [
        (fixture.post("/v1/chat/completions", "{"), 400, "malformed_json"),
        (fixture.post("/v1/chat/completions", "{}"), 400, "missing_field"),
        (fixture.post("/v1/chat/completions", CHAT).header("x-sluice-priority", "7"), 400, "invalid_value"),
        (fixture.post("/v1/chat/completions", CHAT).header("x-sluice-prio", "7"), 400, "unknown_header"),
        (fixture.get("/v1/models/nobody"), 404, "model_not_found"),
    ] {
        let (got, error) = answer(request).await;
        assert_eq!((got.as_u16(), &error["error"]["code"]), (status, &json!(code)), "{error}");
        assert!(error["error"]["message"].is_string() && error["error"]["type"] == "invalid_request_error");
    }
    let (_, models) = fixture.get_json("/v1/models").await;
    let model = json!({"id": "deepseek-flash", "object": "model", "created": 0, "owned_by": "up"});
    assert_eq!(models, json!({"object": "list", "data": [model]}));
    assert_eq!(fixture.get_json("/v1/models/deepseek-flash").await.1, model);
}
