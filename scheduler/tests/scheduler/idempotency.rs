//! One job for one key, whatever races.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::json;

use crate::fixture::{Fixture, answer, chat_with};

#[tokio::test]
async fn sixty_four_clients_with_one_key_get_one_job() {
    let fixture = Fixture::new().await;
    let job = chat_with(&json!({"idempotency_key": "same"})).to_string();
    let racing: Vec<_> =
        (0..64).map(|_| tokio::spawn(answer(fixture.post("/v1/jobs", job.clone())))).collect();
    let (mut ids, mut created) = (BTreeSet::new(), 0);
    for client in racing {
        let (status, job) = client.await.unwrap();
        created += usize::from(status == StatusCode::CREATED);
        assert!(status.is_success(), "{job}");
        ids.insert(job["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), created), (1, 1));
}

#[tokio::test]
async fn a_key_is_bound_to_its_content() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(&chat_with(&json!({"idempotency_key": "k", "priority": 1}))).await;
    // Scheduling fields are no content.
    let (status, same) = fixture.post_json("/v1/jobs", &chat_with(&json!({"idempotency_key": "k"}))).await;
    assert_eq!((status, &same["id"], &same["priority"]), (StatusCode::OK, &json!(first), &json!(1)));
    let other = json!({"idempotency_key": "k", "body": {"model": "deepseek-flash"}});
    let (status, error) = fixture.post_json("/v1/jobs", &other).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        error,
        json!({"error": {
            "message": format!("the idempotency key was used by job {first} with another path, model or body"),
            "type": "invalid_request_error", "param": "/idempotency_key", "code": "idempotency_key_reused"}})
    );
}

#[tokio::test]
async fn a_refused_submit_does_not_use_up_its_key() {
    let fixture = Fixture::new().await;
    let wrong = chat_with(&json!({"idempotency_key": "k", "priority": 6}));
    assert_eq!(fixture.post_json("/v1/jobs", &wrong).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    fixture.submit(&json!({"idempotency_key": "k", "body": {"model": "other"}})).await;
}

#[tokio::test]
async fn the_header_is_a_key_too_and_must_agree_with_the_field() {
    let fixture = Fixture::new().await;
    let send = |body: String| fixture.post("/v1/jobs", body).header("Idempotency-Key", "h");
    let (status, job) = answer(send(chat_with(&json!({})).to_string())).await;
    assert_eq!((status, &job["idempotency_key"]), (StatusCode::CREATED, &json!("h")));
    assert_eq!(answer(send(chat_with(&json!({"idempotency_key": "h"})).to_string())).await.0, StatusCode::OK);
    let (status, error) = answer(send(chat_with(&json!({"idempotency_key": "x"})).to_string())).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("Idempotency-Key"))
    );
}

#[tokio::test]
async fn a_key_that_another_holds_uncommitted_answers_409() {
    let fixture = Fixture::new().await;
    let mut transaction = fixture.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.submit('{\"model\":\"deepseek-flash\"}', idempotency_key => 'held')")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let job = chat_with(&json!({"idempotency_key": "held"})).to_string();
    let response = fixture.post("/v1/jobs", job).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(response.headers()["retry-after"], "1");
    transaction.rollback().await.unwrap();
}
