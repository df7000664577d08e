//! The loops that keep the queue healthy.

use std::{fs::File, time::Duration};

use serde_json::json;
use sluice_domain::{IncarnationId, JobId, JobState};
use sluice_scheduler::{Maintenance, MaintenanceHandle, MaintenanceOptions};
use sluice_store::{Bodies, NewIncarnation};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::{job, wait_until};

use crate::fixture::{Fixture, chat_with, in_days};

const TTL: Duration = Duration::from_secs(2);

fn start(fixture: &Fixture) -> MaintenanceHandle {
    let metrics = MetricsRegistry::new().unwrap().scheduler();
    let mut options = MaintenanceOptions::new("host", metrics);
    options.lease_ttl = TTL;
    options.scan = Duration::from_millis(200);
    Maintenance::start(fixture.store.clone(), options)
}

async fn state(fixture: &Fixture, id: JobId) -> JobState {
    fixture.store.job(&fixture.tenant, id, Bodies::LeftOut).await.unwrap().unwrap().state
}

async fn wait_for_state(fixture: &Fixture, id: JobId, wanted: JobState, within: Duration) {
    wait_until(wanted.as_str(), within, async || state(fixture, id).await == wanted).await;
}

#[tokio::test]
async fn a_silent_workers_jobs_run_again_and_not_before_the_brake_is_released() {
    let fixture = Fixture::new().await;
    let id = fixture.store_job(job().build()).await;
    fixture.lease_one(fixture.incarnation().await).await;
    sqlx::query("UPDATE sluice.incarnations SET beat_at = beat_at - interval '1 minute'")
        .execute(fixture.database.pool())
        .await
        .unwrap();
    let begun = std::time::Instant::now();
    let maintenance = start(&fixture);
    wait_for_state(&fixture, id, JobState::Queued, TTL * 5).await;
    assert!(begun.elapsed() >= TTL, "a reaper that just started marked a worker after {:?}", begun.elapsed());
    maintenance.stop().await;
}

#[tokio::test]
async fn a_worker_whose_lock_file_is_free_is_known_dead_at_once() {
    let fixture = Fixture::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.lock");
    let lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    let new = NewIncarnation {
        id: IncarnationId::generate(),
        worker: "w".to_owned(),
        host: "host".to_owned(),
        lock_path: Some(path.to_str().unwrap().to_owned()),
        pid: 1,
        version: "0".to_owned(),
        isolates_suspects: false,
    };
    fixture.store.incarnation_start(&new).await.unwrap();
    let id = fixture.store_job(job().build()).await;
    fixture.lease_one(new.id).await;
    let maintenance = start(&fixture);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(state(&fixture, id).await, JobState::Running);
    drop(lock);
    wait_for_state(&fixture, id, JobState::Queued, TTL).await;
    maintenance.stop().await;
}

#[tokio::test]
async fn a_passed_deadline_fails_a_waiting_job() {
    let fixture = Fixture::new().await;
    let late = fixture.submit(&chat_with(&json!({"deadline": in_days(1)}))).await.parse().unwrap();
    sqlx::query("UPDATE sluice.ready SET deadline = clock_timestamp() WHERE deadline IS NOT NULL")
        .execute(fixture.database.pool())
        .await
        .unwrap();
    let fine = fixture.store_job(job().build()).await;
    let maintenance = start(&fixture);
    wait_for_state(&fixture, late, JobState::Failed, Duration::from_secs(10)).await;
    assert_eq!(state(&fixture, fine).await, JobState::Queued);
    maintenance.stop().await;
}
