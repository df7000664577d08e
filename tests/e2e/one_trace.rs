//! One trace per job, across processes: the collector receives real OTLP from the scheduler and from a worker, and
//! their spans make one tree.

use std::time::Duration;

use serde_json::json;
use sluice_testkit::{Collector, wait_for};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_one_trace_from_submit_to_call() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let mut site = Site::start_with(
        &[],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned())],
    )
    .await;
    site.start_worker("4");
    let submitted: serde_json::Value = site
        .client
        .post(format!("{}/v1/jobs", site.url))
        .json(&json!({"body": {"model": "deepseek-flash", "messages": [{"role": "user", "content": "secret prompt"}]}}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let id = submitted["id"].as_str().unwrap();
    let done: serde_json::Value = site
        .client
        .get(format!("{}/v1/jobs/{id}?wait=30s", site.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(done["state"], "succeeded", "{done}");

    let spans = wait_for("the call's span to be exported", Duration::from_secs(30), async || {
        let spans = collector.spans.lock().unwrap().clone();
        (spans.iter().any(|(_, span)| span.name == "chat deepseek-flash")
            && spans.iter().any(|(_, span)| span.name.starts_with("attempt "))
            && spans.iter().any(|(_, span)| span.name == "submit"))
        .then_some(spans)
    })
    .await;
    let named = |prefix: &str| spans.iter().find(|(_, span)| span.name.starts_with(prefix)).unwrap();
    let (submit_service, submit) = named("submit");
    let (attempt_service, attempt) = named("attempt ");
    let (_, call) = named("chat deepseek-flash");
    assert_ne!(submit_service, attempt_service, "two processes");
    assert_eq!((&attempt.trace_id, &call.trace_id), (&submit.trace_id, &submit.trace_id));
    assert_eq!((&attempt.parent_span_id, &call.parent_span_id), (&submit.span_id, &attempt.span_id));
    assert_eq!(done["trace_id"].as_str().unwrap(), hex(&submit.trace_id));
    assert!(!format!("{spans:?}").contains("secret prompt"), "prompts are not captured");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
