//! What a check-up asks the server: its settings, its clock, what holds old rows, and whether a pooler stands before it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, Row};

use crate::{Doorbell, Store, StoreError};

/// How often each connection is asked again for its server process.
const LOOKS: u32 = 5;

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
    /// The setting `synchronous_standby_names`; empty: commits wait for no standby.
    pub synchronous_standby_names: String,
    /// The setting `autovacuum`.
    pub autovacuum: String,
    /// When the server started.
    pub started_at: DateTime<Utc>,
    /// The setting `max_connections`, less those that are kept for superusers and other special roles.
    pub max_connections: u32,
    /// Client connections that are open now, over all databases.
    pub connections_open: u32,
    /// How long the oldest transaction that holds a snapshot or an id has been open, as far as this role may see.
    pub oldest_snapshot_age: Option<Duration>,
    /// Who holds it: process id and application name.
    pub oldest_snapshot_holder: Option<String>,
    /// How long the oldest prepared transaction has waited.
    pub oldest_prepared_age: Option<Duration>,
    /// Its name.
    pub oldest_prepared_name: Option<String>,
    /// Standbys and replication slots that hold old rows or the log, as far as this role may see.
    pub replicas: Vec<ReplicaHold>,
}

/// What a standby or a replication slot keeps from being cleaned up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaHold {
    /// `slot` or `standby`, and its name.
    pub name: String,
    /// Whether somebody uses it now.
    pub is_active: bool,
    /// How many transactions old the oldest row version is that it holds; `None`: it holds none.
    pub held_transactions: Option<u64>,
    /// How many bytes of the log it keeps.
    pub kept_log_bytes: u64,
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
                   current_setting('synchronous_standby_names') AS "synchronous_standby_names!",
                   current_setting('autovacuum') AS "autovacuum!",
                   pg_postmaster_start_time() AS "started_at!",
                   current_setting('server_version') AS "version!", pg_is_in_recovery() AS "is_standby!",
                   current_setting('fsync') AS "fsync!", current_setting('full_page_writes') AS "full_page_writes!",
                   current_setting('synchronous_commit') AS "synchronous_commit!",
                   current_setting('max_connections')::integer
                       - current_setting('superuser_reserved_connections')::integer
                       - coalesce(current_setting('reserved_connections', true)::integer, 0) AS "max_connections!",
                   (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
                       AS "connections_open!",
                   (SELECT age_s FROM oldest)::float8 AS oldest_age_s,
                   (SELECT format('process %s (%s)', pid, coalesce(nullif(application_name, ''), 'unnamed'))
                    FROM oldest) AS oldest_holder,
                   (SELECT extract(epoch FROM clock_timestamp() - min(p.prepared)) FROM pg_prepared_xacts p)::float8
                       AS prepared_age_s,
                   (SELECT p.gid FROM pg_prepared_xacts p ORDER BY p.prepared LIMIT 1) AS prepared_name"#
        )
        .fetch_one(&self.pool)
        .await?;
        let replicas = self.replica_holds().await?;
        let age = |seconds: Option<f64>| seconds.and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok());
        Ok(ServerFacts {
            version_number: row.version_number as u32,
            version: row.version,
            is_standby: row.is_standby,
            fsync: row.fsync,
            full_page_writes: row.full_page_writes,
            synchronous_commit: row.synchronous_commit,
            synchronous_standby_names: row.synchronous_standby_names,
            autovacuum: row.autovacuum,
            started_at: row.started_at,
            max_connections: row.max_connections.max(0) as u32,
            connections_open: row.connections_open as u32,
            oldest_snapshot_age: age(row.oldest_age_s),
            oldest_snapshot_holder: row.oldest_holder,
            oldest_prepared_age: age(row.prepared_age_s),
            oldest_prepared_name: row.prepared_name,
            replicas,
        })
    }

    /// Replication slots, and standbys that report back what they still read.
    async fn replica_holds(&self) -> Result<Vec<ReplicaHold>, StoreError> {
        let rows = sqlx::query!(
            r#"-- replica_holds
            SELECT 'slot ' || s.slot_name AS "name!", s.active AS "is_active!",
                   greatest(age(s.xmin), age(s.catalog_xmin))::bigint AS held,
                   CASE WHEN NOT pg_is_in_recovery()
                        THEN pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint END AS kept
            FROM pg_replication_slots s
            UNION ALL
            SELECT 'standby ' || coalesce(nullif(r.application_name, ''), r.pid::text), true,
                   age(r.backend_xmin)::bigint, 0
            FROM pg_stat_replication r WHERE r.backend_xmin IS NOT NULL
            ORDER BY 1 LIMIT 1000"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| ReplicaHold {
                name: row.name,
                is_active: row.is_active,
                held_transactions: row.held.map(|count| count.max(0) as u64),
                kept_log_bytes: row.kept.unwrap_or(0).max(0) as u64,
            })
            .collect())
    }

    /// How bodies are compressed in this database: `lz4` or `pglz`. Asked of the schema, which must be there.
    pub async fn body_compression(&self) -> Result<String, StoreError> {
        let method = sqlx::query_scalar!(
            r#"-- body_compression
            SELECT CASE a.attcompression
                       WHEN 'l' THEN 'lz4'
                       WHEN 'p' THEN 'pglz'
                       ELSE current_setting('default_toast_compression') END AS "method!"
            FROM pg_attribute a WHERE a.attrelid = 'sluice.jobs'::regclass AND a.attname = 'body'"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(method)
    }

    /// Finds out whether a pooler stands behind a URL, by what connections share. A pooler that lends server processes
    /// by the statement is seen where two connections that are open at once have the same one, or one of them has
    /// another than before; a pooler that keeps them, where one that follows another has the same. On a busy pooler the
    /// answer may be `Direct` although there is one.
    pub async fn connection_kind(&self, url: DatabaseUrl) -> Result<ConnectionKind, StoreError> {
        let options = match url {
            DatabaseUrl::Pooled => self.pool.connect_options().as_ref().clone(),
            DatabaseUrl::Direct => self.direct.clone(),
        };
        let mut first = PgConnection::connect_with(&options).await?;
        let mut second = PgConnection::connect_with(&options).await?;
        let processes = (server_process(&mut first).await?, server_process(&mut second).await?);
        let mut is_lent = processes.0 == processes.1;
        for _ in 0..LOOKS {
            is_lent |= server_process(&mut second).await? != processes.1;
            is_lent |= server_process(&mut first).await? != processes.0;
        }
        first.close().await?;
        second.close().await?;
        if is_lent {
            return Ok(ConnectionKind::TransactionPooler);
        }
        let mut third = PgConnection::connect_with(&options).await?;
        let third_process = server_process(&mut third).await?;
        third.close().await?;
        let is_kept = [processes.0, processes.1].contains(&third_process);
        Ok(if is_kept { ConnectionKind::SessionPooler } else { ConnectionKind::Direct })
    }

    /// Whether a bell that is rung is heard, over the connections that listeners use. Rings the bell of ended jobs:
    /// whoever hears it looks once.
    pub async fn doorbell_is_heard(&self, within: Duration) -> Result<bool, StoreError> {
        let heard = async {
            let mut listener = self.listen(&[Doorbell::Ended]).await?;
            self.ring(Doorbell::Ended).await?;
            listener.heard().await.map(|bell| bell == Some(Doorbell::Ended))
        };
        match tokio::time::timeout(within, heard).await {
            Ok(heard) => heard,
            Err(_) => Ok(false),
        }
    }
}

/// The process that serves a connection now. Asked without a prepared statement, which some poolers lose.
async fn server_process(connection: &mut PgConnection) -> Result<i32, StoreError> {
    let row = sqlx::raw_sql("-- server_process\nSELECT pg_backend_pid()").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}
