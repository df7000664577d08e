//! x
use std::time::Duration;
use sluice_telemetry::*;
use sluice_testkit::Collector;
use tracing::Instrument;

#[test]
fn parents() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let st = std::process::Command::new(std::env::current_exe().unwrap()).args(["--exact", "the_process", "--ignored", "--nocapture"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "100").status().unwrap();
    assert!(st.success());
    eprintln!("{:?}", collector.spans.lock().unwrap().iter().map(|(_, s)| s.name.clone()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "child"]
async fn the_process() {
    let guard = init(&TelemetryOptions::new("x")).unwrap();
    tokio::spawn(async {
    let request = server_span(&ServerFields { method: "POST", route: "/v1/jobs", traceparent: None });
    async {
        let submit = submit_span(&SubmitFields { tenant: "t", protocol: "rest", jobs: Some(1) });
        let tp = traceparent_of(&submit).unwrap();
        async { tokio::time::sleep(Duration::from_millis(10)).await; tracing::info!("hello {tp}"); }.instrument(submit).await
    }.instrument(request.clone()).await;
    record_server_status(&request, 201);
    drop(request);
    }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    drop(guard);
}
