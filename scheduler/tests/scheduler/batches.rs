//! Batches, from their file to their output. A worker's part is played by hand.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_domain::{Decision, JobId};
use sluice_scheduler::{BatchBell, Maintenance, MaintenanceHandle, MaintenanceOptions};
use sluice_store::BatchLine;
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::{job, wait_for};

use crate::{
    files::{content, send},
    fixture::{Fixture, answer},
};

/// On a busy host a look takes long, and a batch rests twenty times as long, up to 15 s, before each of the next.
const SOON: Duration = Duration::from_mins(1);
const ENDPOINT: &str = "/v1/chat/completions";

struct World {
    fixture: Fixture,
    bell: BatchBell,
    maintenance: Option<MaintenanceHandle>,
}

fn line(custom_id: &str) -> Value {
    json!({"custom_id": custom_id, "method": "POST", "url": ENDPOINT,
           "body": {"model": "deepseek-flash", "messages": [{"role": "user", "content": custom_id}]}})
}

fn file(lines: &[Value]) -> Vec<u8> {
    lines.iter().map(|line| line.to_string() + "\n").collect::<String>().into_bytes()
}

impl World {
    /// Without the loops that move batches on.
    async fn standing() -> Self {
        let bell = BatchBell::default();
        let given = bell.clone();
        let fixture = Fixture::with(|options| options.batch_bell = given).await;
        Self { fixture, bell, maintenance: None }
    }

    async fn new() -> Self {
        let mut world = Self::standing().await;
        world.start();
        world
    }

    fn start(&mut self) {
        let mut options = MaintenanceOptions::new("host", MetricsRegistry::new().unwrap().scheduler());
        options.batch_bell = self.bell.clone();
        self.maintenance = Some(Maintenance::start(self.fixture.store.clone(), options));
    }

    async fn submit(&self, lines: &[u8], more: Value) -> Value {
        let input = send(&self.fixture, lines).await;
        let mut body = json!({"input_file_id": input, "endpoint": ENDPOINT, "completion_window": "24h"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, batch) = self.fixture.post_json("/v1/batches", &body).await;
        assert_eq!((status, &batch["object"]), (StatusCode::OK, &json!("batch")), "{batch}");
        batch
    }

    async fn until(&self, batch: &Value, status: &str) -> Value {
        let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
        let what = format!("the batch to be {status}");
        let now = wait_for(&what, SOON, async || {
            let now = self.fixture.get_json(&path).await.1;
            let is_over =
                ["failed", "completed", "expired", "cancelled"].iter().any(|end| now["status"] == *end);
            (now["status"] == status || is_over).then_some(now)
        });
        let now = now.await;
        assert_eq!(now["status"], status, "{now}");
        now
    }

    async fn lines(&self, id: &Value) -> Vec<Value> {
        let bytes = content(&self.fixture, id.as_str().unwrap()).await;
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_batch_ends_with_a_file_of_results_and_one_of_failures() {
    let world = World::new().await;
    let mut lines = file(&[line("a"), line("b")]);
    lines.extend_from_slice(b"\n");
    lines.extend_from_slice(line("c").to_string().as_bytes());
    let metadata = json!({"metadata": {"team": "search"}});
    let batch = world.submit(&lines, metadata.clone()).await;
    assert_eq!(batch["metadata"], metadata["metadata"]);
    let begun = world.until(&batch, "in_progress").await;
    assert_eq!(begun["request_counts"], json!({"total": 3, "completed": 0, "failed": 0}));
    assert_eq!(begun["model"], "deepseek-flash");
    let created = begun["created_at"].as_i64().unwrap();
    assert!((86_399..=86_401).contains(&(begun["expires_at"].as_i64().unwrap() - created)), "{begun}");
    // Each line is an ordinary job.
    let tagged = format!("/v1/jobs?tag.batch_id={}&tag.custom_id=c", batch["id"].as_str().unwrap());
    let (_, jobs) = world.fixture.get_json(&tagged).await;
    assert_eq!(
        (jobs["data"].as_array().unwrap().len(), &jobs["data"][0]["priority"]),
        (1, &json!(2)),
        "{jobs}"
    );
    let incarnation = world.fixture.incarnation().await;
    for _ in 0..2 {
        let leased = world.fixture.lease_one(incarnation).await;
        let name = String::from_utf8(leased.body.clone()).unwrap().contains("\"a\"");
        let answer = format!("{{\"is_a\" :\n {name}}}");
        world.fixture.settle(incarnation, &leased, Decision::Succeed, Some(answer.as_bytes())).await;
    }
    world.fixture.fail_one().await;
    let done = world.until(&batch, "completed").await;
    assert_eq!(done["request_counts"], json!({"total": 3, "completed": 2, "failed": 1}));
    assert_eq!(
        done["usage"],
        json!({"input_tokens": 14, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 10,
               "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 24})
    );
    for time in ["in_progress_at", "finalizing_at", "completed_at"] {
        assert!(done[time].is_number(), "{time}: {done}");
    }
    let output = world.lines(&done["output_file_id"]).await;
    let ids: Vec<_> = output.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b"]);
    let response = json!({"status_code": 200, "request_id": "req-1", "body": {"is_a": true}});
    assert_eq!((&output[0]["response"], &output[0]["error"]), (&response, &Value::Null));
    let errors = world.lines(&done["error_file_id"]).await;
    let error = json!({"code": "server_error", "message": "the upstream answered 500"});
    assert_eq!((&errors[0]["custom_id"], &errors[0]["error"]), (&json!("c"), &error));
    assert_eq!((errors.len(), &errors[0]["response"]), (1, &Value::Null));
    let (_, listed) = world.fixture.get_json("/v1/batches").await;
    assert_eq!((&listed["data"][0], &listed["has_more"]), (&done, &json!(false)));
    let purpose =
        world.fixture.get_json(&format!("/v1/files/{}", done["output_file_id"].as_str().unwrap())).await.1;
    assert_eq!(purpose["purpose"], "batch_output");
}

#[tokio::test]
async fn a_file_with_a_wrong_line_fails_and_nothing_is_called() {
    let world = World::new().await;
    let mut other = line("d");
    other["url"] = json!("/v1/embeddings");
    let mut nameless = line("e");
    nameless["body"] = json!({});
    let mut lines = file(&[line("a"), line("a"), other, nameless]);
    lines.extend_from_slice(b"{\n");
    let batch = world.submit(&lines, json!({})).await;
    let failed = world.until(&batch, "failed").await;
    assert_eq!(failed["errors"]["object"], "list");
    let found: Vec<_> = failed["errors"]["data"].as_array().unwrap().iter().collect();
    let found: Vec<_> = found
        .iter()
        .map(|e| (e["line"].as_i64().unwrap(), e["code"].as_str().unwrap(), e["param"].as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (2, "duplicate_custom_id", Some("custom_id")),
            (3, "mismatched_url", Some("url")),
            (4, "missing_field", Some("body.model")),
            (5, "malformed_json", None),
        ]
    );
    assert_eq!(world.fixture.get_json("/v1/jobs").await.1["data"], json!([]));
    let empty = world.submit(b"\n\n", json!({})).await;
    let failed = world.until(&empty, "failed").await;
    assert_eq!(failed["errors"]["data"][0]["code"], "empty_file");
}

#[tokio::test]
async fn a_cancelled_batch_keeps_what_was_done() {
    let world = World::new().await;
    let batch = world.submit(&file(&[line("a"), line("b")]), json!({})).await;
    world.until(&batch, "in_progress").await;
    world.fixture.work_one(b"{}").await;
    let cancel = format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap());
    let (status, cancelling) = answer(world.fixture.post(&cancel, "")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(["cancelling", "cancelled"].contains(&cancelling["status"].as_str().unwrap()), "{cancelling}");
    let done = world.until(&batch, "cancelled").await;
    assert_eq!(done["request_counts"], json!({"total": 2, "completed": 1, "failed": 1}));
    assert_eq!(world.lines(&done["output_file_id"]).await.len(), 1);
    assert_eq!(world.lines(&done["error_file_id"]).await[0]["error"]["code"], "batch_cancelled");
    assert!(done["cancelling_at"].is_number() && done["cancelled_at"].is_number());
    // Once more is no error, and one that has ended otherwise can't be.
    assert_eq!(answer(world.fixture.post(&cancel, "")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_batch_whose_window_is_over_delivers_what_was_done() {
    let world = World::new().await;
    let window = json!({"completion_window": "2s"});
    let batch = world.submit(&file(&[line("a"), line("b")]), window).await;
    world.until(&batch, "in_progress").await;
    world.fixture.work_one(b"{}").await;
    wait_for("the deadline to pass", SOON, async || {
        (world.fixture.store.deadlines_end(10).await.unwrap() > 0).then_some(())
    })
    .await;
    let done = world.until(&batch, "expired").await;
    assert_eq!(done["request_counts"], json!({"total": 2, "completed": 1, "failed": 1}));
    assert_eq!(world.lines(&done["output_file_id"]).await.len(), 1);
    assert_eq!(world.lines(&done["error_file_id"]).await[0]["error"]["code"], "batch_expired");
}

#[tokio::test]
async fn whoever_goes_on_with_a_batch_stores_only_the_jobs_that_are_missing() {
    let mut world = World::standing().await;
    let batch = world.submit(&file(&[line("a"), line("b"), line("c")]), json!({})).await;
    let id = batch["id"].as_str().unwrap().parse().unwrap();
    // Somebody named two lines, stored one of their jobs, and died.
    let names = [("a", JobId::generate()), ("b", JobId::generate())];
    let lines: Vec<_> = (1..)
        .zip(names)
        .map(|(line_no, (custom_id, job))| BatchLine { line_no, custom_id: custom_id.to_owned(), job })
        .collect();
    let store = &world.fixture.store;
    assert_eq!(store.batch_lines_name(id, &lines).await.unwrap(), [names[0].1, names[1].1]);
    let mut first = job().build();
    first.id = names[0].1;
    store.submit(&first).await.unwrap();
    world.start();
    world.until(&batch, "in_progress").await;
    let jobs = world.fixture.get_json("/v1/jobs").await.1;
    let mut stored: Vec<_> = jobs["data"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    stored.retain(|id| names.iter().all(|(_, named)| json!(named) != *id));
    assert_eq!((jobs["data"].as_array().unwrap().len(), stored.len()), (3, 1), "{jobs}");
}

#[tokio::test]
async fn a_claim_that_is_not_renewed_ends_and_its_holder_can_write_nothing_more() {
    let world = World::standing().await;
    let batch = world.submit(&file(&[line("a")]), json!({})).await;
    let id = batch["id"].as_str().unwrap().parse().unwrap();
    let store = &world.fixture.store;
    let (first, second) = (uuid(1), uuid(2));
    assert_eq!(store.batch_claim(first, Duration::ZERO).await.unwrap(), Some(id));
    assert_eq!(store.batch_claim(second, SOON).await.unwrap(), Some(id));
    assert_eq!(store.batch_claim(first, SOON).await.unwrap(), None);
    assert_eq!(store.batch_renew_claim(id, first, SOON).await.unwrap(), None);
    assert!(!store.batch_fail_if_validating(id, first, &json!({})).await.unwrap());
    assert!(!store.batch_begin_if_validating(id, first, 1, None).await.unwrap());
    assert_eq!(store.batch_lines_count(id, first, 0, 10).await.unwrap(), None);
    assert!(store.batch_begin_if_validating(id, second, 1, None).await.unwrap());
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

#[tokio::test]
async fn what_can_not_be_a_batch_is_refused() {
    let world = World::standing().await;
    let input = send(&world.fixture, b"{}").await;
    let good = json!({"input_file_id": input, "endpoint": ENDPOINT, "completion_window": "24h"});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let pairs: serde_json::Map<_, _> = (0..17).map(|number| (number.to_string(), json!(""))).collect();
    for (body, status, param) in [
        (json!({}), 400, json!("/input_file_id")),
        (with("input_file_id", json!("x")), 400, json!("/input_file_id")),
        (with("input_file_id", json!("file-00000000000000000000000000000000")), 404, json!("input_file_id")),
        (with("endpoint", json!("/v1/jobs")), 400, json!("/endpoint")),
        (with("completion_window", json!("soon")), 400, json!("/completion_window")),
        (with("metadata", json!(pairs)), 400, json!("/metadata")),
        (with("metadata", json!({"a": 1})), 400, json!("/metadata/a")),
        (
            with("output_expires_after", json!({"anchor": "created_at", "seconds": 1})),
            400,
            json!("/output_expires_after/seconds"),
        ),
        (with("other", json!(1)), 400, json!("/other")),
    ] {
        let (got, error) = world.fixture.post_json("/v1/batches", &body).await;
        assert_eq!((got.as_u16(), &error["error"]["param"]), (status, &param), "{error}");
    }
    for path in ["/v1/batches/x", "/v1/batches/batch_00000000000000000000000000000000"] {
        assert_eq!(world.fixture.get_json(path).await.0, StatusCode::NOT_FOUND);
        assert_eq!(answer(world.fixture.post(&format!("{path}/cancel"), "")).await.0, StatusCode::NOT_FOUND);
    }
}
