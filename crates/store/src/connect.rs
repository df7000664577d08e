//! The pool of connections.

use std::{str::FromStr, time::Duration};

use sqlx::{
    Connection as _,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use crate::{StoreError, identity::Identity, pool::Connections};

/// A connection that was used so recently is taken from the pool without a test.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long statements under way may hold up the end of a store.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `DATABASE_URL`; may lead to a pooler in transaction mode.
    pub url: String,
    /// `DATABASE_DIRECT_URL`: for beats, LISTEN and migrations, where `url` leads to a pooler.
    pub direct_url: Option<String>,
    /// The most connections of the pool.
    pub max_connections: u32,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long a caller waits for a free connection before the database counts as unavailable.
    pub acquire_timeout: Duration,
}

impl StoreOptions {
    /// Options with the usual bounds: 10 connections, 5 s for one to become free.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            direct_url: None,
            max_connections: 10,
            application_name: "sluice".to_owned(),
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

/// The database as the rest of Sluice sees it. Cheap to clone; all clones share the pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: Connections,
    pub(crate) direct: PgConnectOptions,
    pub(crate) identity: Identity,
}

impl Store {
    /// Opens a pool and tries one connection.
    pub async fn connect(options: &StoreOptions) -> Result<Self, StoreError> {
        let store = Self::connect_lazily(options)?;
        store.ping().await?;
        Ok(store)
    }

    /// Opens a pool without trying it: what the first statement meets is its caller's.
    pub fn connect_lazily(options: &StoreOptions) -> Result<Self, StoreError> {
        let connect = |url: &str| {
            PgConnectOptions::from_str(url)
                .map(|connect| connect.application_name(&options.application_name))
                .map_err(StoreError::BadUrl)
        };
        let pooled = connect(&options.url)?;
        let direct = connect(options.direct_url.as_deref().unwrap_or(&options.url))?;
        let identity = Identity::default();
        let tested = identity.clone();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            // The pool's own test is a round trip before each statement. Within a moment of its last use, a connection
            // that broke is as likely to break under the statement itself.
            .test_before_acquire(false)
            .before_acquire(|connection, known| {
                Box::pin(async move { Ok(known.idle_for < TRUSTED_FOR || connection.ping().await.is_ok()) })
            })
            .after_connect(move |connection, _| {
                let identity = tested.clone();
                Box::pin(async move { identity.test_connection(connection).await })
            })
            .connect_lazy_with(pooled);
        Ok(Self { pool: Connections::new(pool, identity.clone()), direct, identity })
    }

    /// Uses a pool that is there already (tests).
    pub fn from_pool(pool: PgPool) -> Self {
        let (direct, identity) = (pool.connect_options().as_ref().clone(), Identity::default());
        Self { pool: Connections::new(pool, identity.clone()), direct, identity }
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query!("-- ping\nSELECT 1 AS one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections after their statements have ended. What is still in use after five seconds, as by a
    /// statement that hangs, is left to the end of the process.
    pub async fn close(&self) {
        if tokio::time::timeout(CLOSE_GRACE, self.pool.close()).await.is_err() {
            tracing::warn!("connections to the database were still in use, and are left as they are");
        }
    }
}
