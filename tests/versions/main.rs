//! Migrations, the SQL functions and the spine on each supported major version, by containers. A version whose image
//! can't be had is named as skipped.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::time::Duration;

use serde_json::json;
use sluice_testkit::{containers::postgres_image, wait_for};
use sluice_tests::processes::{Process, free_port};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_15_carries_a_job_from_submit_to_replay() {
    on_version("15").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_17_carries_a_job_from_submit_to_replay() {
    on_version("17").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_18_carries_a_job_from_submit_to_replay() {
    on_version("18").await;
}

async fn on_version(tag: &str) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = match postgres_image(tag).await {
        Ok(server) => server,
        Err(reason) => {
            eprintln!("skipped: postgres:{tag}: {reason:#}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut simulator =
        Process::start("simulator", folder.path(), &["sim", "--listen", &listen], &[]).unwrap();
    simulator.wait_for_url(&format!("http://{listen}/sim/stats")).await;
    let variables = [("DATABASE_URL", server.url().to_owned()), ("SIM_KEY", "sk-sim".to_owned())];
    let configuration = folder.path().join("sluice.yaml");
    let upstream = json!({"upstreams": [{"name": "sim", "provider": "deepseek",
        "base_url": format!("http://{listen}"), "api_key": "${SIM_KEY}"}]});
    std::fs::write(&configuration, upstream.to_string()).unwrap();

    Process::run(folder.path(), &["migrate"], &variables).await.unwrap();
    Process::run(folder.path(), &["migrate"], &variables).await.expect("a second migration changes nothing");
    Process::run(folder.path(), &["apply", "-f", configuration.to_str().unwrap()], &variables).await.unwrap();

    let mut session = connect(server.url()).await;
    let id = submit(&mut session).await;
    work(&folder, &variables).await;
    let (state, result) = job(&mut session, id).await;
    assert_eq!(state, "succeeded", "{result:?}");
    assert!(result.unwrap().contains("echo"));

    sqlx::query("SELECT sluice.replay($1)").bind(id).execute(&mut session).await.unwrap();
    assert_eq!(job(&mut session, id).await.0, "queued");
    work(&folder, &variables).await;
    assert_eq!(job(&mut session, id).await.0, "succeeded");
    let cancelled: String =
        sqlx::query_scalar("SELECT sluice.cancel($1)").bind(id).fetch_one(&mut session).await.unwrap();
    assert_eq!(cancelled, "succeeded", "too late");
}

async fn connect(url: &str) -> PgConnection {
    wait_for("the server to accept connections", Duration::from_secs(30), async || {
        PgConnection::connect(url).await.ok()
    })
    .await
}

/// Submits in a transaction that is rolled back, then in one that commits.
async fn submit(session: &mut PgConnection) -> Uuid {
    const SUBMIT: &str = "SELECT sluice.submit('{\"model\":\"deepseek-flash\",
        \"messages\":[{\"role\":\"user\",\"content\":\"Say hello\"}]}', idempotency_key => 'one')";
    let mut undone = session.begin().await.unwrap();
    let first: Uuid = sqlx::query_scalar(SUBMIT).fetch_one(&mut *undone).await.unwrap();
    undone.rollback().await.unwrap();
    let gone =
        sqlx::query("SELECT FROM sluice.job($1)").bind(first).fetch_optional(&mut *session).await.unwrap();
    assert!(gone.is_none());
    sqlx::query_scalar(SUBMIT).fetch_one(session).await.unwrap()
}

async fn work(folder: &tempfile::TempDir, variables: &[(&str, String)]) {
    Process::run(folder.path(), &["worker", "--until-idle"], variables).await.unwrap();
}

async fn job(session: &mut PgConnection, id: Uuid) -> (String, Option<String>) {
    let row =
        sqlx::query("SELECT state, result FROM sluice.job($1)").bind(id).fetch_one(session).await.unwrap();
    (row.get(0), row.get(1))
}
