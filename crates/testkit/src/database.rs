//! A database for one test.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    dropper,
    server::TestServer,
    template::{ensure_template, run},
};

/// More than a test needs at once, and little enough for many tests at once.
const POOL_CONNECTIONS: u32 = 10;

/// A database that only this test knows; dropped with the value.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    options: PgConnectOptions,
    pool: PgPool,
}

#[derive(Clone, Copy)]
enum Contents {
    Migrated,
    Empty,
}

impl TestDatabase {
    /// A database with the product's schema.
    ///
    /// # Panics
    ///
    /// When there is no server to be had, or the migrations fail; the message says why.
    pub async fn new() -> Self {
        Self::make(Contents::Migrated)
            .await
            .unwrap_or_else(|error| panic!("no database for the test: {error:#}"))
    }

    /// A database without anything in it, for tests of the migrations themselves.
    ///
    /// # Panics
    ///
    /// When there is no server to be had; the message says why.
    pub async fn empty() -> Self {
        Self::make(Contents::Empty)
            .await
            .unwrap_or_else(|error| panic!("no database for the test: {error:#}"))
    }

    /// Its `DATABASE_URL`, also for other processes.
    pub fn url(&self) -> String {
        let mut url = self.options.to_url_lossy();
        // A word of sqlx alone, which libpq (psql) refuses.
        let known = url.query_pairs().into_owned().filter(|(name, _)| name != "statement-cache-capacity");
        let known: Vec<(String, String)> = known.collect();
        url.query_pairs_mut().clear().extend_pairs(known);
        url.to_string()
    }

    /// Connections to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How to connect to it, for pools with other settings.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Its name in the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it now and waits for that; for a process that ends right after.
    pub async fn remove(self) -> Result<()> {
        self.pool.close().await;
        let mut admin = TestServer::get().await?.connect().await?;
        run(&mut admin, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await
    }

    async fn make(contents: Contents) -> Result<Self> {
        let server = TestServer::get().await?;
        dropper::start(server);
        let mut admin = server.connect().await?;
        let name = next_name();
        match contents {
            Contents::Migrated => {
                let template = ensure_template(server, &mut admin).await?;
                run(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
            }
            Contents::Empty => run(&mut admin, format!("CREATE DATABASE {name}")).await?,
        }
        let options = server.options_of(&name);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS)
            .connect_with(options.clone())
            .await
            .with_context(|| format!("connect to {name}"))?;
        Ok(Self { name, options, pool })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        dropper::drop_later(&self.name);
    }
}

/// Holds the process, so that what a dead one left behind can be told.
fn next_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // A process number comes around again; the random part keeps its databases apart from an earlier one's.
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}_{count}_{}", dropper::PREFIX, std::process::id(), &random[..8])
}
