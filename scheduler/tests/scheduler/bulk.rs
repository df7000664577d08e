//! Many jobs in one upload.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{Body, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::fixture::{Fixture, chat, chat_with};

async fn upload(fixture: &Fixture, body: String) -> Vec<Value> {
    let response = fixture.post("/v1/jobs/bulk", body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_line_is_answered_in_order_and_bad_ones_stop_no_other() {
    let fixture = Fixture::new().await;
    let good = chat().to_string();
    let keyed = chat_with(&json!({"idempotency_key": "k"})).to_string();
    let reused = json!({"idempotency_key": "k", "body": {"model": "m"}}).to_string();
    let lines = [&good, "{", "", &keyed, r#"{"body":{"model":"m"},"priority":6}"#, &keyed, &reused, &good];
    let answers = upload(&fixture, lines.join("\n")).await;
    let short: Vec<_> = answers
        .iter()
        .map(|a| (a["line"].as_u64().unwrap(), a["status"].as_str().or(a["error"]["code"].as_str()).unwrap()))
        .collect();
    assert_eq!(
        short,
        [
            (1, "created"),
            (2, "malformed_json"),
            (4, "created"),
            (5, "invalid_value"),
            (6, "existing"),
            (7, "idempotency_key_reused"),
            (8, "created")
        ]
    );
    assert_eq!(answers[2]["id"], answers[4]["id"]);
    assert_eq!(answers[3]["error"]["param"], "/priority");
    let (_, page) = fixture.get_json("/v1/jobs").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn thousands_of_lines_are_answered_each() {
    let fixture = Fixture::new().await;
    let body = format!("{}\n", chat()).repeat(3_333);
    let answers = upload(&fixture, body).await;
    assert_eq!(answers.len(), 3_333);
    for (place, answer) in answers.iter().enumerate() {
        assert_eq!((&answer["line"], &answer["status"]), (&json!(place + 1), &json!("created")));
    }
}

#[tokio::test]
async fn answers_come_while_the_upload_goes_on() {
    let fixture = Fixture::new().await;
    let (lines, sent) = mpsc::channel::<Result<Bytes, Infallible>>(1);
    lines.send(Ok(format!("{}\n", chat()).into())).await.unwrap();
    let response = fixture.post("/v1/jobs/bulk", Body::wrap_stream(ReceiverStream::new(sent))).send();
    let mut answers = response.await.unwrap().bytes_stream();
    let first = tokio::time::timeout(Duration::from_secs(10), answers.next()).await.unwrap();
    assert!(String::from_utf8_lossy(&first.unwrap().unwrap()).contains("\"line\":1"));
    lines.send(Ok(chat().to_string().into())).await.unwrap();
    drop(lines);
    let second = answers.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&second).contains("\"line\":2"));
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_line_that_is_too_large_is_refused_alone() {
    let fixture = Fixture::new().await;
    let large = json!({"body": {"model": "m", "x": "y".repeat(10 * 1024 * 1024)}}).to_string();
    let medium = json!({"body": {"model": "m", "x": "y".repeat(8 * 1024 * 1024)}}).to_string();
    let answers = upload(&fixture, format!("{large}\n{medium}\n{}\n", chat())).await;
    assert_eq!(answers[0]["error"]["code"], "line_too_large");
    assert_eq!(answers[1]["error"]["code"], "body_too_large");
    assert_eq!(answers[2]["status"], "created");
}

#[tokio::test]
async fn a_key_that_another_holds_uncommitted_stops_only_its_own_lines() {
    let fixture = Fixture::new().await;
    let mut transaction = fixture.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.submit('{\"model\":\"deepseek-flash\"}', idempotency_key => 'held')")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let held = chat_with(&json!({"idempotency_key": "held"})).to_string();
    let answers = upload(&fixture, format!("{}\n{held}\n{held}\n{}", chat(), chat())).await;
    assert_eq!(answers[0]["status"], "created");
    assert_eq!(answers[1]["error"]["code"], "idempotency_key_in_use");
    assert_eq!(answers[2]["error"]["code"], "idempotency_key_in_use");
    assert_eq!(answers[3]["status"], "created");
    transaction.rollback().await.unwrap();
}
