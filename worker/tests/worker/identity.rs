//! The name of the database leads to another one while a worker runs.

use std::time::Duration;

use sluice_domain::JobState;
use sluice_store::{Store, StoreOptions};
use sluice_testkit::{TestCluster, wait_until};
use sluice_worker::{SpoolOptions, WorkMode, Worker, WorkerError, WorkerOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tempfile::TempDir;

use crate::world::{SOON, World, job_with};

/// Two databases of a server, whose names can be exchanged.
struct Twins {
    admin: PgPool,
    name: String,
}

impl Twins {
    async fn make(cluster: &TestCluster) -> Self {
        let options: PgConnectOptions = cluster.url().parse().unwrap();
        let name = options.get_database().unwrap().to_owned();
        let admin = options.clone().database("postgres");
        let admin = PgPoolOptions::new().max_connections(1).connect_with(admin).await.unwrap();
        sqlx::query("CREATE DATABASE twin").execute(&admin).await.unwrap();
        let twin = options.database("twin").to_url_lossy().to_string();
        let store = Store::connect(&StoreOptions::new(twin)).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        Self { admin, name }
    }

    async fn rename(&self, from: &str, to: &str) {
        let run = async |statement: String| sqlx::query(AssertSqlSafe(statement)).execute(&self.admin).await;
        run(format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false")).await.unwrap();
        wait_until("a database to be renamed", SOON, async || {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            sqlx::query(end).bind(from).execute(&self.admin).await.unwrap();
            run(format!("ALTER DATABASE {from} RENAME TO {to}")).await.is_ok()
        })
        .await;
        run(format!("ALTER DATABASE {to} ALLOW_CONNECTIONS true")).await.unwrap();
    }

    /// From now on the name leads to the other one.
    async fn exchange(&self) {
        self.rename(&self.name, "away").await;
        self.rename("twin", &self.name).await;
        self.rename("away", "twin").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_database_is_another_one_writes_nothing_there_and_ends() {
    if !TestCluster::is_possible() {
        return;
    }
    let (cluster, folder) = (TestCluster::start().await, TempDir::new().unwrap());
    let twins = Twins::make(&cluster).await;
    let mut world = World::at(cluster.url()).await;
    let id = world.submit(job_with("none latency_ms=2500").build()).await;
    let options =
        |world: &World| WorkerOptions { spool: Some(SpoolOptions::new(folder.path())), ..world.options() };
    let handle = Worker::start(options(&world)).await.unwrap();
    world.until_running(1).await;
    twins.exchange().await;

    tokio::time::timeout(SOON, handle.join()).await.expect("it ends by itself");
    assert!(matches!(handle.failure(), Some(WorkerError::OtherDatabase)), "{:?}", handle.failure());
    let unwritten = handle.unwritten();
    assert_eq!((unwritten.in_spool, unwritten.lost), (1, 0));
    let other = PgPoolOptions::new().max_connections(1).connect(cluster.url()).await.unwrap();
    for table in ["incarnations", "ledger_begun", "ledger_ended", "late_results", "done"] {
        let count = format!("SELECT count(*) FROM sluice.{table}");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&other).await.unwrap();
        assert_eq!(rows, 0, "rows of {table} in the other database");
    }
    other.close().await;

    twins.exchange().await;
    world.store = Store::connect(&StoreOptions::new(cluster.url())).await.unwrap();
    let next = WorkerOptions { mode: WorkMode::UntilIdle, ..options(&world) };
    let next = Worker::start(next).await.unwrap();
    tokio::time::timeout(SOON + Duration::from_secs(10), next.join()).await.expect("nothing is left to do");
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
    assert_eq!(world.simulator.calls().len(), 1, "it was paid for once");
}
