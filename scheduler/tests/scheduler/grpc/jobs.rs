//! Jobs from their submit to their replay.

use std::collections::BTreeMap;

use serde_json::json;
use sluice_proto::{
    Timestamp,
    v1::{
        CancelRequest, GetRequest, Job, JobFilter, JobResult, JobState, ListRequest, OnUnknown,
        ReplayManyRequest, ReplayRequest, SubmitRequest, SubmitStatus, Usage,
    },
};

use super::fixture::{CHAT, Grpc, chat};

fn get(id: &str) -> GetRequest {
    GetRequest { id: id.to_owned(), wait: None }
}

#[tokio::test]
async fn a_submitted_job_has_all_its_fields() {
    let mut grpc = Grpc::new().await;
    let tags: BTreeMap<_, _> = [("team".to_owned(), "search".to_owned())].into();
    let now = sluice_scheduler::wall_clock().timestamp();
    let run_at = Timestamp { seconds: now + 86_400, nanos: 1_000 };
    let deadline = Timestamp { seconds: now + 2 * 86_400, nanos: 0 };
    let request = SubmitRequest {
        path: Some("/v1/completions".to_owned()),
        model: Some("other".to_owned()),
        queue: Some("slow".to_owned()),
        priority: Some(5),
        idempotency_key: Some("k".to_owned()),
        run_at: Some(run_at),
        deadline: Some(deadline),
        on_unknown: OnUnknown::Hold.into(),
        tags: tags.clone(),
        ..chat()
    };
    let answer = grpc.client.submit(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), SubmitStatus::Created);
    let job = answer.job.unwrap();
    let deferred = job.deferred_by.clone().unwrap();
    assert_eq!(deferred.gate, "no_route");
    assert!(job.created_at.is_some());
    let expected = Job {
        id: job.id.clone(),
        tenant: "default".to_owned(),
        queue: "slow".to_owned(),
        path: "/v1/completions".to_owned(),
        model: "other".to_owned(),
        state: JobState::Queued.into(),
        priority: 5,
        attempts: 0,
        max_attempts: 7,
        generation: 1,
        run_at: Some(run_at),
        deferred_by: Some(deferred),
        created_at: job.created_at,
        deadline: Some(deadline),
        idempotency_key: Some("k".to_owned()),
        tags,
        trace_id: job.trace_id.clone(),
        ..Job::default()
    };
    assert_eq!(job, expected);
    assert_eq!(grpc.client.get(get(&job.id)).await.unwrap().into_inner(), expected);
    let id = job.id.parse().unwrap();
    let body = grpc.fixture.store.job_request_body(&grpc.fixture.tenant, id).await.unwrap().unwrap();
    assert_eq!(body, CHAT.as_bytes());
}

#[tokio::test]
async fn a_result_arrives_byte_for_byte() {
    let mut grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let answer = b"{\"ok\": 1}\n\0\xff";
    grpc.fixture.work_one(answer).await;
    let job = grpc.client.get(get(&id)).await.unwrap().into_inner();
    assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 1));
    let expected = JobResult {
        status_code: 200,
        body: Some(answer.to_vec().into()),
        request_id: Some("req-1".to_owned()),
        usage: Some(Usage { input_tokens: 7, cached_input_tokens: 2, output_tokens: 5, reasoning_tokens: 1 }),
        cost_usd: 0.000_001_5,
        duration_ms: Some(40),
        ..JobResult::default()
    };
    assert_eq!(job.result, Some(expected));
    assert!(job.started_at.is_some() && job.finished_at.is_some());
}

#[tokio::test]
async fn a_traceparent_of_the_client_goes_on_in_the_job() {
    let mut grpc = Grpc::new().await;
    let mut request = tonic::Request::new(chat());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let job = grpc.client.submit(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
}

#[tokio::test]
async fn jobs_are_listed_newest_first_page_by_page() {
    let mut grpc = Grpc::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(grpc.submit().await);
    }
    grpc.fixture.work_one(b"{}").await;
    ids.reverse();
    let mut page = async |request| {
        let page = grpc.client.list(request).await.unwrap().into_inner();
        (page.jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), page.last_id, page.has_more)
    };
    let first = page(ListRequest { limit: Some(2), ..ListRequest::default() }).await;
    assert_eq!(first, (ids[..2].to_vec(), Some(ids[1].clone()), true));
    let second = page(ListRequest { limit: Some(2), after: first.1, ..ListRequest::default() }).await;
    assert_eq!(second, (ids[2..].to_vec(), Some(ids[2].clone()), false));
    let filter = Some(JobFilter { state: JobState::Succeeded.into(), ..JobFilter::default() });
    let ended =
        grpc.client.list(ListRequest { filter, ..ListRequest::default() }).await.unwrap().into_inner();
    // Lists leave bodies out.
    let bodies: Vec<_> = ended.jobs.into_iter().map(|job| job.result.unwrap().body).collect();
    assert_eq!(bodies, [None]);
}

#[tokio::test]
async fn a_held_job_says_why_it_is_held() {
    let mut grpc = Grpc::new().await;
    let id = grpc.submit().await;
    let get = || GetRequest { id: id.clone(), wait: None };
    assert_eq!(grpc.client.get(get()).await.unwrap().into_inner().hold_reason, None);
    grpc.fixture.hold_one().await;
    let job = grpc.client.get(get()).await.unwrap().into_inner();
    assert_eq!((job.state(), job.hold_reason.as_deref()), (JobState::Held, Some("unknown_outcome")));
}

#[tokio::test]
async fn a_job_is_cancelled_and_replayed() {
    let mut grpc = Grpc::new().await;
    let id = grpc.submit().await;
    for _ in 0..2 {
        let job = grpc.client.cancel(CancelRequest { id: id.clone() }).await.unwrap().into_inner();
        assert_eq!(job.state(), JobState::Cancelled);
    }
    let job = grpc.client.replay(ReplayRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!((job.id.as_str(), job.state(), job.generation), (id.as_str(), JobState::Queued, 2));
}

#[tokio::test]
async fn failed_jobs_are_replayed_by_filter() {
    let mut grpc = Grpc::new().await;
    let id = grpc.submit().await;
    grpc.fixture.fail_one().await;
    grpc.submit().await;
    let mut replay = async |dry_run| {
        let filter = Some(JobFilter { error_class: Some("server_error".to_owned()), ..JobFilter::default() });
        let request = ReplayManyRequest { filter, dry_run, ..ReplayManyRequest::default() };
        let report = grpc.client.replay_many(request).await.unwrap().into_inner();
        (report.matched, report.changed, report.dry_run)
    };
    assert_eq!(replay(true).await, (1, 0, true));
    assert_eq!(replay(false).await, (1, 1, false));
    assert_eq!(replay(false).await, (0, 0, false));
    let (_, job) = grpc.fixture.get_json(&format!("/v1/jobs/{id}")).await;
    assert_eq!((&job["state"], &job["generation"]), (&json!("queued"), &json!(2)));
}
