//! What a check-up asks the server: its settings, its clock, what holds old rows, and whether a pooler stands before it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};

use crate::{Store, StoreError};

/// What the server says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFacts {
    /// Its version as a number: 150018 is 15.18.
    pub version_number: u32,
    /// Its version for people.
    pub version: String,
    /// Whether it is a standby that takes no writes.
    pub is_standby: bool,
    /// The setting `fsync`.
    pub fsync: String,
    /// The setting `full_page_writes`.
    pub full_page_writes: String,
    /// The setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// The setting `max_connections`.
    pub max_connections: u32,
    /// Client connections that are open now, over all databases.
    pub connections_open: u32,
    /// How long the oldest transaction that holds a snapshot or an id has been open, as far as this role may see.
    pub oldest_snapshot_age: Option<Duration>,
    /// Who holds it: process id and application name.
    pub oldest_snapshot_holder: Option<String>,
    /// How long the oldest prepared transaction has waited.
    pub oldest_prepared_age: Option<Duration>,
}

/// What stands between this program and the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionKind {
    /// Each connection has a server process of its own.
    Direct,
    /// A pooler that keeps a server process for as long as the connection lives.
    SessionPooler,
    /// A pooler that shares server processes between statements: no LISTEN, no settings that stay.
    TransactionPooler,
}

/// Which of the two URLs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatabaseUrl {
    /// `DATABASE_URL`.
    Pooled,
    /// `DATABASE_DIRECT_URL`, where it is given.
    Direct,
}

impl Store {
    /// The time by the database clock.
    pub async fn database_now(&self) -> Result<DateTime<Utc>, StoreError> {
        let now = sqlx::query_scalar!(
            r#"-- database_now
            SELECT clock_timestamp() AS "now!""#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(now)
    }

    /// Asks the server for its version, its settings and what it is busy with.
    pub async fn server_facts(&self) -> Result<ServerFacts, StoreError> {
        let row = sqlx::query!(
            r#"-- server_facts
            WITH oldest AS (
                SELECT a.pid, a.application_name, extract(epoch FROM clock_timestamp() - a.xact_start) AS age_s
                FROM pg_stat_activity a
                WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
                  AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.xact_start IS NOT NULL
                ORDER BY a.xact_start LIMIT 1
            )
            SELECT current_setting('server_version_num')::integer AS "version_number!",
                   current_setting('server_version') AS "version!", pg_is_in_recovery() AS "is_standby!",
                   current_setting('fsync') AS "fsync!", current_setting('full_page_writes') AS "full_page_writes!",
                   current_setting('synchronous_commit') AS "synchronous_commit!",
                   current_setting('max_connections')::integer AS "max_connections!",
                   (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
                       AS "connections_open!",
                   (SELECT age_s FROM oldest)::float8 AS oldest_age_s,
                   (SELECT format('process %s (%s)', pid, coalesce(nullif(application_name, ''), 'unnamed'))
                    FROM oldest) AS oldest_holder,
                   (SELECT extract(epoch FROM clock_timestamp() - min(p.prepared)) FROM pg_prepared_xacts p)::float8
                       AS prepared_age_s"#
        )
        .fetch_one(&self.pool)
        .await?;
        let age = |seconds: Option<f64>| seconds.and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok());
        Ok(ServerFacts {
            version_number: row.version_number as u32,
            version: row.version,
            is_standby: row.is_standby,
            fsync: row.fsync,
            full_page_writes: row.full_page_writes,
            synchronous_commit: row.synchronous_commit,
            max_connections: row.max_connections as u32,
            connections_open: row.connections_open as u32,
            oldest_snapshot_age: age(row.oldest_age_s),
            oldest_snapshot_holder: row.oldest_holder,
            oldest_prepared_age: age(row.prepared_age_s),
        })
    }

    /// Finds out whether a pooler stands behind a URL, by what connections share: two that are open at once never
    /// share a server process unless a pooler lends it by the statement, and one that follows another shares it only
    /// where a pooler keeps it. On a busy pooler the answer may be `Direct` although there is one.
    pub async fn connection_kind(&self, url: DatabaseUrl) -> Result<ConnectionKind, StoreError> {
        let options = match url {
            DatabaseUrl::Pooled => self.pool.connect_options().as_ref().clone(),
            DatabaseUrl::Direct => self.direct.clone(),
        };
        let (first, first_process) = connect_and_ask(&options).await?;
        let (second, second_process) = connect_and_ask(&options).await?;
        first.close().await?;
        second.close().await?;
        if first_process == second_process {
            return Ok(ConnectionKind::TransactionPooler);
        }
        let (third, third_process) = connect_and_ask(&options).await?;
        third.close().await?;
        let is_lent = [first_process, second_process].contains(&third_process);
        Ok(if is_lent { ConnectionKind::SessionPooler } else { ConnectionKind::Direct })
    }
}

/// A new connection, and the process that serves it. Asked without a prepared statement, which some poolers lose.
async fn connect_and_ask(options: &PgConnectOptions) -> Result<(PgConnection, i32), StoreError> {
    let mut connection = PgConnection::connect_with(options).await?;
    let row = sqlx::raw_sql("-- server_process\nSELECT pg_backend_pid()").fetch_one(&mut connection).await?;
    let process = row.try_get(0)?;
    Ok((connection, process))
}
