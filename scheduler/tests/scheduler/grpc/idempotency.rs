//! One job for one key, whatever races, over whatever protocol.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_proto::v1::SubmitStatus;

use super::fixture::{CHAT, Grpc, chat_with_key, client_of};
use crate::fixture::answer;

#[tokio::test]
async fn sixty_four_clients_with_one_key_over_both_protocols_get_one_job() {
    let grpc = Grpc::new().await;
    // The same bytes as over gRPC, white space included.
    let document = format!(r#"{{"idempotency_key":"same","body":{CHAT}}}"#);
    let mut racing = Vec::new();
    for place in 0..64 {
        if place % 2 == 0 {
            let submit = answer(grpc.fixture.post("/v1/jobs", document.clone()));
            racing.push(tokio::spawn(async move {
                let (status, job) = submit.await;
                (job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned(), status == 201)
            }));
        } else {
            let mut client = client_of(&grpc.server).await;
            racing.push(tokio::spawn(async move {
                let answer = client.submit(chat_with_key("same")).await.unwrap().into_inner();
                let is_created = answer.status() == SubmitStatus::Created;
                (answer.job.unwrap().id, is_created)
            }));
        }
    }
    let (mut ids, mut created) = (BTreeSet::new(), 0);
    for client in racing {
        let (id, is_created) = client.await.unwrap();
        ids.insert(id);
        created += usize::from(is_created);
    }
    assert_eq!((ids.len(), created), (1, 1));
    let (_, jobs) = grpc.fixture.get_json("/v1/jobs").await;
    assert_eq!(jobs["data"].as_array().unwrap().len(), 1);
    assert_eq!(jobs["data"][0]["idempotency_key"], json!("same"));
}

#[tokio::test]
async fn a_key_seen_before_answers_with_its_job() {
    let mut grpc = Grpc::new().await;
    let first = grpc.client.submit(chat_with_key("k")).await.unwrap().into_inner();
    let second = grpc.client.submit(chat_with_key("k")).await.unwrap().into_inner();
    assert_eq!((first.status(), second.status()), (SubmitStatus::Created, SubmitStatus::Existing));
    assert_eq!(first.job.unwrap().id, second.job.unwrap().id);
}
