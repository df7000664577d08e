//! The depths of queues reach a collector though nobody scrapes.

use std::time::Duration;

use serde_json::json;
use sluice_testkit::{Collector, wait_until};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn depths_of_queues_are_sent_though_nobody_scrapes() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let interval = ("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned());
    let site = Site::start_with(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), interval]).await;
    let body =
        json!({"body": {"model": "deepseek-flash", "messages": [{"role": "user", "content": "hello"}]}});
    let submitted = site.client.post(format!("{}/v1/jobs", site.url)).json(&body).send().await.unwrap();
    assert_eq!(submitted.status(), 201);
    wait_until("the depths to be sent", Duration::from_mins(1), async || {
        collector.metric_names.lock().unwrap().iter().any(|name| name == "sluice.jobs")
    })
    .await;
}
