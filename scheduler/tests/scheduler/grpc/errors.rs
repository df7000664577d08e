//! Errors have the usual status, REST's code, and name their culprit.

use sluice_domain::MAX_BODY_BYTES;
use sluice_proto::{
    Duration,
    v1::{
        CancelRequest, GetRequest, JobFilter, ListRequest, ReplayManyRequest, ReplayRequest, SubmitRequest,
        WatchRequest,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::fixture::{Grpc, chat, chat_with_key, codes, culprit};

const NOBODY: &str = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

fn expect(status: &Status, code: Code, reason: &str, field: Option<&str>) {
    assert_eq!((codes(status), culprit(status).as_deref()), ((code, reason.to_owned()), field), "{status}");
}

#[tokio::test]
async fn invalid_input_is_refused_with_a_pointer() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let wrong = client.submit(SubmitRequest { priority: Some(6), ..chat() }).await.unwrap_err();
    expect(&wrong, Code::InvalidArgument, "invalid_value", Some("/priority"));
    assert_eq!(wrong.message(), "/priority: priority must be a whole number from 1 to 5");
    let wrong = client.submit(SubmitRequest { body: "no".into(), ..chat() }).await.unwrap_err();
    expect(&wrong, Code::InvalidArgument, "malformed_json", Some("/body"));
    let wrong = client.list(ListRequest { limit: Some(501), ..ListRequest::default() }).await.unwrap_err();
    expect(&wrong, Code::InvalidArgument, "invalid_value", Some("/limit"));
    let filter = Some(JobFilter { error_class: Some("odd".to_owned()), ..JobFilter::default() });
    let wrong = client.list(ListRequest { filter, ..ListRequest::default() }).await.unwrap_err();
    expect(&wrong, Code::InvalidArgument, "invalid_value", Some("/filter/error_class"));
    let wrong = client.replay_many(ReplayManyRequest::default()).await.unwrap_err();
    expect(&wrong, Code::InvalidArgument, "missing_field", Some("/filter"));
    let wait = Some(Duration { seconds: -1, nanos: 0 });
    let wrong = client.get(GetRequest { id: NOBODY.to_owned(), wait }).await.unwrap_err();
    expect(&wrong, Code::InvalidArgument, "invalid_value", Some("/wait"));
}

#[tokio::test]
async fn an_unknown_job_is_not_found() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    for id in [NOBODY, "no id", ""] {
        let id = id.to_owned();
        let refused = [
            client.get(GetRequest { id: id.clone(), wait: None }).await.unwrap_err(),
            client.watch(WatchRequest { id: id.clone() }).await.unwrap_err(),
            client.cancel(CancelRequest { id: id.clone() }).await.unwrap_err(),
            client.replay(ReplayRequest { id }).await.unwrap_err(),
        ];
        for status in refused {
            expect(&status, Code::NotFound, "job_not_found", None);
        }
    }
}

#[tokio::test]
async fn what_the_state_forbids_is_a_failed_precondition() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let id = grpc.submit().await;
    let refused = client.replay(ReplayRequest { id: id.clone() }).await.unwrap_err();
    expect(&refused, Code::FailedPrecondition, "not_possible_in_state", None);
    grpc.fixture.work_one(b"{}").await;
    let refused = client.cancel(CancelRequest { id }).await.unwrap_err();
    expect(&refused, Code::FailedPrecondition, "not_possible_in_state", None);
}

#[tokio::test]
async fn a_key_with_other_content_already_exists() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    client.submit(chat_with_key("k")).await.unwrap();
    let other = SubmitRequest { body: r#"{"model":"deepseek-flash"}"#.into(), ..chat_with_key("k") };
    let refused = client.submit(other).await.unwrap_err();
    expect(&refused, Code::AlreadyExists, "idempotency_key_reused", Some("/idempotency_key"));
}

#[tokio::test]
async fn a_key_that_another_holds_uncommitted_aborts() {
    let grpc = Grpc::new().await;
    let mut transaction = grpc.fixture.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.submit('{\"model\":\"deepseek-flash\"}', idempotency_key => 'held')")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let refused = grpc.client.clone().submit(chat_with_key("held")).await.unwrap_err();
    transaction.rollback().await.unwrap();
    expect(&refused, Code::Aborted, "idempotency_key_in_use", Some("/idempotency_key"));
    let delay = refused.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(std::time::Duration::from_secs(1)));
}

#[tokio::test]
async fn too_large_exhausts_a_resource() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let body_of = |bytes: usize| {
        let frame = r#"{"model":"m","x":""}"#;
        let body = frame.replace(r#""x":"""#, &format!(r#""x":"{}""#, "x".repeat(bytes - frame.len())));
        SubmitRequest { body: body.into(), ..SubmitRequest::default() }
    };
    client.submit(body_of(MAX_BODY_BYTES)).await.unwrap();
    let refused = client.submit(body_of(MAX_BODY_BYTES + 1)).await.unwrap_err();
    expect(&refused, Code::ResourceExhausted, "body_too_large", Some("/body"));
    // Larger than a message may be.
    let refused = client.submit(body_of(MAX_BODY_BYTES + 2 * 1024 * 1024)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}
