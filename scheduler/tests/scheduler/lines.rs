//! Queues, upstreams, accounts and workers.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_config::Configuration;
use sluice_domain::PairFloors;
use sluice_store::{Grant, LimitedGrant, PausedKind};

use crate::fixture::{CONFIGURATION, Fixture, chat, chat_with, in_days};

#[tokio::test]
async fn queues_show_their_depth_and_their_pause() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    fixture.submit(&chat_with(&json!({"run_at": in_days(1)}))).await;
    let (status, paused) = fixture.post_json("/v1/queues/default/pause", &json!({})).await;
    assert_eq!(
        (status, paused),
        (StatusCode::OK, json!({"object": "queue", "name": "default", "paused": true}))
    );
    let (_, mut queues) = fixture.get_json("/v1/queues").await;
    let queue = queues["data"][0].as_object_mut().unwrap();
    assert!(queue.insert("oldest_age_s".to_owned(), Value::Null).unwrap().as_f64().is_some());
    assert!(queue.insert("paused_at".to_owned(), Value::Null).unwrap().is_string());
    assert_eq!(
        queues,
        json!({"object": "list", "data": [{"name": "default", "object": "queue", "depth": 2, "ready": 1,
            "scheduled": 1, "running": 0, "held": 0, "oldest_age_s": null, "paused": true, "paused_at": null}]})
    );
    let (_, job) = fixture.get_json(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job["deferred_by"], json!({"gate": "queue_paused", "until": null}));
    assert!(fixture.store.board(None, None).await.unwrap().is_empty());
    let (_, resumed) = fixture.post_json("/v1/queues/default/resume", &json!({})).await;
    assert_eq!(resumed["paused"], json!(false));
    let (_, job) = fixture.get_json(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job["deferred_by"], Value::Null);
}

#[tokio::test]
async fn upstreams_show_their_own_pause_or_their_accounts() {
    let fixture = Fixture::new().await;
    let paused = async || fixture.get_json("/v1/upstreams").await.1["data"][0]["paused"].clone();
    assert_eq!(paused().await, Value::Null);
    fixture.post_json("/v1/upstreams/up/pause", &json!({})).await;
    let pause = paused().await;
    assert_eq!((&pause["kind"], &pause["reason"]), (&json!("upstream"), &json!("operator")));
    fixture.post_json("/v1/upstreams/up/resume", &json!({})).await;
    assert_eq!(paused().await, Value::Null);
    fixture.store.pause(PausedKind::Account, "acc", "quota_exhausted").await.unwrap();
    // Gates that others close are seen within a second.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let pause = paused().await;
    assert_eq!((&pause["kind"], &pause["reason"]), (&json!("account"), &json!("quota_exhausted")));
    let (status, _) = fixture.post_json("/v1/accounts/acc/resume", &json!({})).await;
    assert_eq!((status, paused().await), (StatusCode::OK, Value::Null));
}

#[tokio::test]
async fn workers_limits_and_budgets_are_listed_truthfully() {
    let fixture = Fixture::new().await;
    let none = json!({"object": "list", "data": []});
    for path in ["/v1/limits", "/v1/budgets", "/v1/workers"] {
        assert_eq!(fixture.get_json(path).await, (StatusCode::OK, none.clone()));
    }
    let id = fixture.incarnation().await;
    let (_, workers) = fixture.get_json("/v1/workers").await;
    assert_eq!(workers["data"][0]["id"], json!(id));
}

#[tokio::test]
async fn a_full_limit_is_listed_and_explains_why_a_job_waits() {
    let fixture = Fixture::new().await;
    let document =
        format!("{CONFIGURATION}limits: [ {{ account: acc, model: deepseek-flash, concurrency: 1 }} ]\n");
    let limits = Configuration::parse(&document).unwrap().declared_limits();
    fixture.store.configuration_apply_if_newest(1, &document, &limits, "test").await.unwrap();
    let body = json!({"body": {"model": "deepseek-flash", "messages": []}});
    fixture.submit(&body).await;
    let waiting = fixture.submit(&body).await;
    let entry = fixture.store.board(None, None).await.unwrap().remove(0);
    let floors = PairFloors::default();
    let grant = Grant { lane_id: entry.lane_id, priority: entry.priority, limit: 9, floors };
    let grant = LimitedGrant { grant, limits: [limits[0].id()].into() };
    let incarnation = fixture.incarnation().await;
    let lease = fixture.store.lease_limited_many(incarnation, &[grant], 9).await.unwrap();
    assert_eq!(lease.jobs.len(), 1);

    let (_, listed) = fixture.get_json("/v1/limits").await;
    assert_eq!(
        listed["data"],
        json!([{"object": "limit", "account": "acc", "model": "deepseek-flash", "queue": null, "kind": "concurrency",
                "window_s": null, "limit": 1, "used": 1, "remaining": 0, "falls_at": null, "estimate": null,
                "adaptive": null}])
    );
    let (_, explanation) = fixture.get_json(&format!("/v1/jobs/{waiting}/explain")).await;
    assert_eq!(
        explanation["blockers"],
        json!([{"kind": "limit", "until": null, "message": "A limit is used up: account \"acc\", model \
                \"deepseek-flash\": 1 at once (1 used). A call has to end first."}])
    );
}
