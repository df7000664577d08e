//! Actions on many jobs by filter.

use reqwest::StatusCode;
use serde_json::json;
use sluice_domain::JobFilter;
use sluice_scheduler::{DryRun, replay_matching};
use sluice_testkit::job;

use crate::fixture::{Fixture, chat};

#[tokio::test]
async fn all_failed_jobs_are_replayed_and_no_other() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.submit(&chat()).await;
        fixture.fail_one().await;
    }
    fixture.submit(&chat()).await;
    let succeeded = fixture.work_one(b"{}").await;
    let dry = json!({"filter": {"error_class": "server_error"}, "dry_run": true});
    let (status, report) = fixture.post_json("/v1/replays", &dry).await;
    assert_eq!((status, report), (StatusCode::OK, json!({"matched": 3, "changed": 0, "dry_run": true})));
    let (_, report) = fixture.post_json("/v1/replays", &json!({"filter": {}, "limit": 2})).await;
    assert_eq!(report, json!({"matched": 2, "changed": 2, "dry_run": false}));
    let (_, report) = fixture.post_json("/v1/replays", &json!({"filter": {}})).await;
    assert_eq!(report, json!({"matched": 1, "changed": 1, "dry_run": false}));
    let (_, job) = fixture.get_json(&format!("/v1/jobs/{succeeded}")).await;
    assert_eq!((&job["state"], &job["generation"]), (&json!("succeeded"), &json!(1)));
}

#[tokio::test]
async fn replays_at_a_rate_become_due_one_after_the_other() {
    let fixture = Fixture::new().await;
    for _ in 0..4 {
        fixture.submit(&chat()).await;
        fixture.fail_one().await;
    }
    fixture.post_json("/v1/replays", &json!({"filter": {}, "rate_per_minute": 1})).await;
    let (_, queues) = fixture.get_json("/v1/queues").await;
    assert_eq!((&queues["data"][0]["ready"], &queues["data"][0]["scheduled"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn more_than_a_page_is_cancelled() {
    let fixture = Fixture::new().await;
    for jobs in job().times(1_200).chunks(600) {
        fixture.store.submit_many(jobs).await.unwrap();
    }
    fixture.store_job(job().queue("other").build()).await;
    let (_, report) = fixture.post_json("/v1/cancellations", &json!({"filter": {"queue": "default"}})).await;
    assert_eq!(report, json!({"matched": 1200, "changed": 1200, "dry_run": false}));
    let (_, left) = fixture.get_json("/v1/jobs?state=queued").await;
    assert_eq!(left["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn held_jobs_are_released_by_filter() {
    let fixture = Fixture::new().await;
    fixture.submit(&chat()).await;
    fixture.hold_one().await;
    let (_, report) = fixture.post_json("/v1/releases", &json!({"filter": {}})).await;
    assert_eq!(report, json!({"matched": 1, "changed": 1, "dry_run": false}));
    let (status, error) =
        fixture.post_json("/v1/releases", &json!({"filter": {}, "rate_per_minute": 1})).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/rate_per_minute"))
    );
    let (status, error) = fixture.post_json("/v1/releases", &json!({})).await;
    assert_eq!((status, &error["error"]["param"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("/filter")));
    let (_, error) = fixture.post_json("/v1/releases", &json!({"filter": {"stat": "held"}})).await;
    assert_eq!(error["error"]["param"], "/filter/stat");
}

#[tokio::test]
async fn another_tenants_jobs_are_never_touched() {
    let fixture = Fixture::new().await;
    let foreign = fixture.store_job(job().tenant("other").build()).await;
    let (_, report) = fixture.post_json("/v1/cancellations", &json!({"filter": {}})).await;
    assert_eq!(report["matched"], json!(0));
    for path in ["", "/attempts", "/explain", "/result", "/events"] {
        let (status, _) = fixture.get_json(&format!("/v1/jobs/{foreign}{path}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, _) = fixture.post_json(&format!("/v1/jobs/{foreign}/cancel"), &json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let filter = JobFilter::default();
    let report =
        replay_matching(&fixture.store, &fixture.tenant, &filter, None, None, DryRun::Yes).await.unwrap();
    assert_eq!(report.matched, 0);
}
