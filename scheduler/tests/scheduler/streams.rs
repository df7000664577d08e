//! Answers that come token by token. A worker's part is played by hand.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sluice_domain::{Decision, IncarnationId, JobFilter, JobId, LeasedJob};
use sluice_store::StreamEvent;
use sluice_testkit::wait_for;
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, answer};

const SOON: Duration = Duration::from_secs(10);
const STREAMED: &str = r#"{"model":"deepseek-flash","stream":true,"messages":[]}"#;

/// A call that somebody waits for, and the lease under which it is answered.
struct Call {
    fixture: Fixture,
    incarnation: IncarnationId,
    leased: LeasedJob,
    client: JoinHandle<Response>,
    next: u32,
}

fn content(text: &str) -> String {
    json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
        .to_string()
}

fn finish() -> String {
    json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).to_string()
}

fn usage() -> String {
    json!({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 3}}).to_string()
}

fn completion(text: &str) -> Value {
    json!({"object": "chat.completion", "choices":
        [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

impl Call {
    async fn begin() -> Self {
        let fixture = Fixture::new().await;
        let request = fixture.post("/v1/chat/completions", STREAMED);
        let client = tokio::spawn(async move { request.send().await.unwrap() });
        let incarnation = fixture.incarnation().await;
        wait_for("the call to be stored", SOON, async || {
            let all = JobFilter::default();
            fixture.store.job_ids_matching(&fixture.tenant, &all, None, 1).await.unwrap().pop()
        })
        .await;
        let leased = fixture.lease_one(incarnation).await;
        wait_for("the stream to be waited for", SOON, async || {
            let waited = fixture.store.stream_events_write(&[leased.job_id], &[]).await.unwrap();
            (waited == [leased.job_id]).then_some(())
        })
        .await;
        Self { fixture, incarnation, leased, client, next: 0 }
    }

    fn id(&self) -> JobId {
        self.leased.job_id
    }

    async fn write(&mut self, data: Option<&str>) {
        let event = StreamEvent {
            job: self.id(),
            lease_no: self.leased.lease_no,
            event_no: self.next,
            data: data.map(|text| text.as_bytes().to_vec()),
        };
        self.next += 1;
        let waited = self.fixture.store.stream_events_write(&[self.id()], &[event]).await.unwrap();
        assert_eq!(waited, [self.id()]);
    }

    async fn succeed(&self, text: &str) {
        let answer = completion(text).to_string();
        let Self { fixture, incarnation, leased, .. } = self;
        fixture.settle(*incarnation, leased, Decision::Succeed, Some(answer.as_bytes())).await;
    }
}

/// Reads until `end` has come.
async fn read_until(response: &mut Response, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let chunk = tokio::time::timeout(SOON, response.chunk()).await.expect("in time").unwrap();
        let Some(chunk) = chunk else { panic!("it ended before {end}: {text}") };
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    text
}

#[tokio::test]
async fn tokens_are_passed_on_as_they_are_written() {
    let mut call = Call::begin().await;
    call.write(Some(&content("Hel"))).await;
    let mut response = (&mut call.client).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-sluice-job-id"], call.id().to_string());
    let event = format!("id: {}/1/0\ndata: {}\n\n", call.id(), content("Hel"));
    assert_eq!(read_until(&mut response, "\n\n").await, event);
    for data in [&content("lo"), &finish(), &usage(), "[DONE]"] {
        call.write(Some(data)).await;
    }
    let text = read_until(&mut response, "\"stop\"").await;
    assert!(text.contains("\"lo\""), "{text}");
    call.succeed("Hello").await;
    // The end is said when the answer is stored, and nobody asked for usage.
    let rest = response.text().await.unwrap();
    assert_eq!(rest.trim_start_matches('\n'), "data: [DONE]\n\n");
}

#[tokio::test]
async fn a_client_that_lost_its_connection_goes_on_where_it_was() {
    let mut call = Call::begin().await;
    call.write(Some(&content("one"))).await;
    let mut response = (&mut call.client).await.unwrap();
    read_until(&mut response, "\n\n").await;
    drop(response);
    call.write(Some(&content("two"))).await;
    let last = format!("{}/1/0", call.id());
    let again = call.fixture.post("/v1/chat/completions", STREAMED).header("last-event-id", &last);
    let mut again = again.send().await.unwrap();
    assert_eq!(again.headers()["x-sluice-known"], "true");
    let text = read_until(&mut again, "two").await;
    assert!(!text.contains("one"), "{text}");
    call.write(Some(&finish())).await;
    call.write(Some("[DONE]")).await;
    call.succeed("onetwo").await;
    assert!(again.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    // By the job's own address, too, and after its end.
    let late = call.fixture.get(&format!("/v1/jobs/{}/stream", call.id())).header("last-event-id", &last);
    let late = late.send().await.unwrap().text().await.unwrap();
    assert!(late.contains("two") && !late.contains("one") && late.ends_with("data: [DONE]\n\n"), "{late}");
    // One job for all of it.
    let jobs = call.fixture.get_json("/v1/jobs").await.1;
    assert_eq!(jobs["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error() {
    let mut call = Call::begin().await;
    call.write(Some(&content("one"))).await;
    let mut response = (&mut call.client).await.unwrap();
    read_until(&mut response, "\n\n").await;
    call.write(None).await;
    let rest = response.text().await.unwrap();
    assert!(rest.contains("\"code\":\"stream_broken\"") && !rest.contains("[DONE]"), "{rest}");
}

#[tokio::test]
async fn an_attempt_that_broke_off_before_its_first_token_is_not_noticed() {
    let mut call = Call::begin().await;
    call.write(None).await;
    call.leased.lease_no = 2;
    call.next = 0;
    call.write(Some(&content("second"))).await;
    let mut response = (&mut call.client).await.unwrap();
    let text = read_until(&mut response, "\n\n").await;
    assert!(text.contains("second") && text.contains("/2/0\n"), "{text}");
}

#[tokio::test]
async fn a_call_that_fails_before_its_first_token_has_a_status() {
    let call = Call::begin().await;
    call.fixture.settle(call.incarnation, &call.leased, Decision::Fail { is_retryable: false }, None).await;
    let response = call.client.await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "server_error");
}

#[tokio::test]
async fn tokens_that_no_bell_told_of_are_found_all_the_same() {
    let mut call = Call::begin().await;
    for number in 0..3 {
        sqlx::query("INSERT INTO sluice.stream_events VALUES ($1, 1, $2, $3)")
            .bind(call.id().as_uuid())
            .bind(number)
            .bind(content("quiet").into_bytes())
            .execute(call.fixture.database.pool())
            .await
            .unwrap();
    }
    let mut response = (&mut call.client).await.unwrap();
    read_until(&mut response, "/1/2\n").await;
}

#[tokio::test]
async fn streams_are_forgotten_and_their_answers_are_not() {
    let mut call = Call::begin().await;
    call.write(Some(&content("one"))).await;
    call.client.abort();
    call.succeed("one").await;
    let store = &call.fixture.store;
    assert_eq!(store.streams_forget(Duration::from_mins(5), 10).await.unwrap(), 0);
    store.streams_wait(&[call.id()], Duration::ZERO).await.unwrap();
    assert_eq!(store.streams_forget(Duration::ZERO, 10).await.unwrap(), 1);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.stream_events")
        .fetch_one(call.fixture.database.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
    let whole = call.fixture.get(&format!("/v1/jobs/{}/stream", call.id())).send().await.unwrap();
    let whole = whole.text().await.unwrap();
    assert!(whole.contains("\"one\"") && whole.ends_with("data: [DONE]\n\n"), "{whole}");
}

#[tokio::test]
async fn an_id_that_is_none_is_refused() {
    let fixture = Fixture::new().await;
    let request = fixture.post("/v1/chat/completions", STREAMED).header("last-event-id", "7");
    assert_eq!(answer(request).await.0, StatusCode::BAD_REQUEST);
    let unknown = format!("{}/1/1", JobId::generate());
    let request = fixture.post("/v1/chat/completions", STREAMED).header("last-event-id", unknown);
    assert_eq!(answer(request).await.0, StatusCode::NOT_FOUND);
}
