//! A private Postgres with the same settings for everybody, and databases in it.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use sluice_cluster::Durability;
use sluice_store::{Store, StoreOptions};
use sluice_testkit::TestCluster;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use url::Url;

/// The settings that hold for Sluice, its peers and the limits. Commits are durable: `fsync` and `synchronous_commit`
/// are on, as in the product's private server, whose other settings hold too.
const SETTINGS: &[(&str, &str)] =
    &[("shared_buffers", "2GB"), ("max_wal_size", "4GB"), ("synchronous_commit", "on"), ("fsync", "on")];

/// A private server; it is killed and its data are removed with the value, or with the process.
#[derive(Debug)]
pub struct Server {
    cluster: TestCluster,
    databases: AtomicU32,
}

impl Server {
    /// A server with the settings of all benchmarks.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// A server with further settings, which win.
    pub async fn start_with(further: &[(&str, &str)]) -> Result<Self> {
        anyhow::ensure!(
            TestCluster::is_possible(),
            "benchmarks need the programs of a Postgres server on this machine"
        );
        let settings: Vec<(&str, &str)> = SETTINGS.iter().chain(further).copied().collect();
        let cluster = TestCluster::start_with(Durability::Full, &settings).await;
        Ok(Self { cluster, databases: AtomicU32::new(0) })
    }

    /// A new database with the product's schema, empty. What was dropped before is first written off by a checkpoint, so
    /// that each run finds the server in the same state.
    pub async fn database(&self) -> Result<Database> {
        self.make("TEMPLATE sluice").await
    }

    /// A new database without anything in it, for peers.
    pub async fn empty_database(&self) -> Result<Database> {
        self.make("TEMPLATE template1").await
    }

    /// The server's main process.
    pub fn postmaster_pid(&self) -> Option<i32> {
        self.cluster.postmaster_pid()
    }

    /// What the server says.
    pub fn log_path(&self) -> std::path::PathBuf {
        self.cluster.data_folder().with_file_name("server.log")
    }

    async fn make(&self, from: &str) -> Result<Database> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let admin = self.url_of("postgres")?;
        let mut connection = PgConnection::connect(&admin).await?;
        connection.execute("CHECKPOINT").await?;
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name} {from}")))
            .await
            .with_context(|| format!("create the database {name}"))?;
        connection.close().await?;
        Ok(Database { url: self.url_of(&name)?, name, admin })
    }

    fn url_of(&self, database: &str) -> Result<String> {
        let mut url = Url::parse(self.cluster.url()).context("read the server's URL")?;
        url.set_path(database);
        Ok(url.into())
    }
}

/// One database of a server.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    url: String,
    admin: String,
}

impl Database {
    /// Its `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url).await.with_context(|| format!("connect to {}", self.name))
    }

    /// A pool of so many connections.
    pub async fn pool(&self, connections: u32) -> Result<PgPool> {
        let pool = PgPoolOptions::new().max_connections(connections).connect(&self.url);
        pool.await.with_context(|| format!("connect to {}", self.name))
    }

    /// The product's store with so many connections.
    pub async fn store(&self, connections: u32) -> Result<Store> {
        let mut options = StoreOptions::new(&self.url);
        options.max_connections = connections;
        options.acquire_timeout = std::time::Duration::from_mins(1);
        Ok(Store::connect(&options).await?)
    }

    /// Statistics for the planner, as autovacuum would have gathered them after a while.
    pub async fn analyze(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.execute("VACUUM (ANALYZE)").await?;
        // What filling left to write must not be written while something is measured.
        connection.execute("CHECKPOINT").await?;
        Ok(connection.close().await?)
    }

    /// The one number that a statement of ours returns.
    pub async fn number(&self, statement: &'static str) -> Result<i64> {
        let mut connection = self.connect().await?;
        let number = sqlx::query_scalar(statement).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    }

    /// Drops it.
    pub async fn remove(self) -> Result<()> {
        let mut connection = PgConnection::connect(&self.admin).await?;
        connection.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name))).await?;
        Ok(connection.close().await?)
    }
}
