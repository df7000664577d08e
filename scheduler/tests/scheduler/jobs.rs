//! One job: submit, read, result, attempts, explain, cancel, replay, release.

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_domain::Decision;

use crate::fixture::{Fixture, answer, chat, chat_with, in_days};

/// Takes out a value that differs each time.
fn take(job: &mut Value, name: &str) -> Value {
    job.as_object_mut().unwrap().insert(name.to_owned(), json!("…")).unwrap()
}

#[tokio::test]
async fn a_submitted_job_is_shown_with_every_field() {
    let fixture = Fixture::new().await;
    let (run_at, deadline) = (in_days(1), in_days(2));
    let request = fixture
        .post(
            "/v1/jobs",
            chat_with(&json!({"priority": 5, "idempotency_key": "k", "tags": {"b": "2", "a": "1"},
                "queue": "slow", "path": "/v1/x", "deadline": deadline, "run_at": run_at}))
            .to_string(),
        )
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let (status, mut job) = answer(request).await;
    assert_eq!(status, StatusCode::CREATED);
    let id = take(&mut job, "id");
    assert_eq!(id.as_str().unwrap().len(), 36);
    let created = take(&mut job, "created_at");
    assert!(created.as_str().unwrap().parse::<DateTime<Utc>>().is_ok());
    assert_eq!(created.as_str().unwrap().len(), "2026-10-01T12:00:00.000000Z".len());
    let expected = json!({
        "id": "…", "object": "job", "tenant": "default", "queue": "slow", "path": "/v1/x",
        "model": "deepseek-flash", "state": "queued", "priority": 5, "attempts": 0, "max_attempts": 7,
        "generation": 1, "run_at": run_at,
        "deferred_by": {"gate": "schedule", "until": run_at}, "created_at": "…",
        "started_at": null, "finished_at": null, "deadline": deadline,
        "idempotency_key": "k", "tags": {"a": "1", "b": "2"}, "result": null, "error": null,
        "trace_id": "0af7651916cd43dd8448eb211c80319c"
    });
    assert_eq!(job, expected);
    let (_, mut read) = fixture.get_json(&format!("/v1/jobs/{}", id.as_str().unwrap())).await;
    take(&mut read, "id");
    take(&mut read, "created_at");
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_body_is_stored_and_a_result_is_answered_byte_for_byte() {
    let fixture = Fixture::new().await;
    let body = r#"{ "model":"deepseek-flash", "x" : 1e999, "x": 12345678901234567890123, "e":"\u00e9\ud800\u0000" }"#;
    let (status, job) = answer(fixture.post("/v1/jobs", format!(r#"{{"body":{body}}}"#))).await;
    assert_eq!(status, StatusCode::CREATED, "{job}");
    let id = job["id"].as_str().unwrap();
    let stored = fixture.store.job_request_body(&fixture.tenant, id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored, body.as_bytes());

    let result = "{\"n\": 1.10,\n \"big\":1e999, \"s\":\"\\u0000\"}\n";
    fixture.work_one(result.as_bytes()).await;
    let text = fixture.get(&format!("/v1/jobs/{id}")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(result.trim_end()), "{text}");
    let exact = fixture.get(&format!("/v1/jobs/{id}/result")).send().await.unwrap();
    assert_eq!(exact.headers()["content-type"], "application/json");
    assert_eq!(exact.headers()["sluice-status-code"], "200");
    assert_eq!(exact.bytes().await.unwrap(), result.as_bytes());
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_base64() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    fixture.work_one(b"\xff\0<html>").await;
    let (_, mut job) = fixture.get_json(&format!("/v1/jobs/{id}")).await;
    assert_eq!(
        job["result"].take(),
        json!({"status_code": 200, "body": "/wA8aHRtbD4=", "body_encoding": "base64", "truncated": false,
            "assembled": false, "late": false, "cached": false, "request_id": "req-1",
            "usage": {"input_tokens": 7, "cached_input_tokens": 2, "output_tokens": 5, "reasoning_tokens": 1},
            "cost_usd": 1.5e-6, "duration_ms": 40})
    );
    assert_eq!((&job["state"], &job["attempts"]), (&json!("succeeded"), &json!(1)));
    let exact = fixture.get(&format!("/v1/jobs/{id}/result")).send().await.unwrap();
    assert_eq!(exact.headers()["content-type"], "application/octet-stream");
    assert_eq!(exact.bytes().await.unwrap().as_ref(), b"\xff\0<html>");
}

#[tokio::test]
async fn the_ledger_shows_each_attempt() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    fixture.work_one(b"{}").await;
    let (_, list) = fixture.get_json(&format!("/v1/jobs/{id}/attempts")).await;
    let attempt = &list["data"][0];
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&attempt["outcome"], &attempt["upstream"], &attempt["lease_no"], &attempt["job_id"]),
        (&json!("succeeded"), &json!("up"), &json!(1), &json!(id))
    );
    let (status, _) = fixture.get_json("/v1/jobs/0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b/attempts").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_job_can_be_cancelled_and_replayed() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let cancel = format!("/v1/jobs/{id}/cancel");
    for _ in 0..2 {
        let (status, job) = fixture.post_json(&cancel, &json!({})).await;
        assert_eq!((status, &job["state"]), (StatusCode::OK, &json!("cancelled")));
        assert_eq!(job["error"]["class"], "cancelled");
    }
    let (status, job) = fixture.post_json(&format!("/v1/jobs/{id}/replay"), &json!({})).await;
    assert_eq!((status, &job["state"], &job["generation"]), (StatusCode::OK, &json!("queued"), &json!(2)));
    let (status, error) = fixture.post_json(&format!("/v1/jobs/{id}/replay"), &json!({})).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::CONFLICT, &json!("not_possible_in_state")));
    fixture.work_one(b"{}").await;
    let (status, error) = fixture.post_json(&cancel, &json!({})).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::CONFLICT, &json!("not_possible_in_state")));
}

#[tokio::test]
async fn a_held_job_is_released() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat_with(&json!({"on_unknown": "hold"}))).await;
    let release = format!("/v1/jobs/{id}/release");
    assert_eq!(fixture.post_json(&release, &json!({})).await.0, StatusCode::CONFLICT);
    fixture.hold_one().await;
    let (_, explanation) = fixture.get_json(&format!("/v1/jobs/{id}/explain")).await;
    assert_eq!(explanation["blockers"][0]["kind"], "held");
    let (status, job) = fixture.post_json(&release, &json!({})).await;
    assert_eq!((status, &job["state"]), (StatusCode::OK, &json!("queued")));
}

#[tokio::test]
async fn explain_says_what_stands_in_the_way() {
    let fixture = Fixture::new().await;
    let kinds = async |id: &str| {
        let (_, explanation) = fixture.get_json(&format!("/v1/jobs/{id}/explain")).await;
        let blockers = explanation["blockers"].as_array().unwrap();
        blockers.iter().map(|b| b["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = fixture.submit(&chat()).await;
    let second = fixture.submit(&chat()).await;
    let later = fixture.submit(&chat_with(&json!({"run_at": in_days(1)}))).await;
    let lost = fixture.submit(&chat_with(&json!({"model": "no-such-model"}))).await;
    assert_eq!(kinds(&first).await, ["no_worker"]);
    let incarnation = fixture.incarnation().await;
    assert_eq!(kinds(&first).await, [""; 0]);
    assert_eq!(kinds(&second).await, ["jobs_before"]);
    assert_eq!(kinds(&later).await, ["schedule"]);
    assert_eq!(kinds(&lost).await, ["no_route"]);
    fixture.post_json("/v1/queues/default/pause", &json!({})).await;
    fixture.post_json("/v1/upstreams/up/pause", &json!({})).await;
    assert_eq!(kinds(&first).await, ["upstream_paused", "queue_paused"]);
    fixture.post_json("/v1/queues/default/resume", &json!({})).await;
    let leased = fixture.lease_one(incarnation).await;
    let (_, explanation) = fixture.get_json(&format!("/v1/jobs/{}/explain", leased.job_id)).await;
    assert_eq!((&explanation["state"], &explanation["worker"]), (&json!("running"), &json!("test")));
    fixture.settle(incarnation, &leased, Decision::Succeed, Some(b"{}")).await;
    let (_, explanation) = fixture.get_json(&format!("/v1/jobs/{}/explain", leased.job_id)).await;
    assert_eq!((&explanation["state"], &explanation["blockers"]), (&json!("succeeded"), &json!([])));
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(fixture.submit(&chat_with(&json!({"tags": {"odd": (number % 2).to_string()}}))).await);
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) = fixture.get_json(&format!("/v1/jobs?limit=3&after={after}")).await;
        for job in page["data"].as_array().unwrap() {
            seen.push(job["id"].as_str().unwrap().to_owned());
        }
        if page["has_more"] == json!(false) {
            break;
        }
        after = page["last_id"].as_str().unwrap().to_owned();
    }
    assert_eq!(seen, ids);
    let count = async |query: &str| {
        let (status, page) = fixture.get_json(&format!("/v1/jobs?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page["data"].as_array().unwrap().len()
    };
    assert_eq!(count("tag.odd=1").await, 3);
    assert_eq!(count("state=queued&queue=default&limit=500").await, 7);
    assert_eq!(count("state=failed").await, 0);
    assert_eq!(count("created_after=2999-01-01T00:00:00%2B01:00").await, 0);
    assert_eq!(count("created_after=2001-01-01T00:00:00+01:00").await, 7);
    let failed = fixture.fail_one().await;
    assert_eq!(count("error_class=server_error").await, 1);
    let (_, page) = fixture.get_json("/v1/jobs?state=failed").await;
    assert_eq!(page["data"][0]["id"], json!(failed));
    assert_eq!(
        page["data"][0]["error"],
        json!({"class": "server_error", "message": "the upstream answered 500", "retryable": true})
    );
}
