//! Bringing the schema up to date.

use sqlx::{Connection, PgConnection, migrate::Migrator};

use crate::{Store, StoreError};

/// Where applied migrations are noted. With its schema: for a role that is called `sluice`, as the private database's
/// is, the bare name would mean another table as soon as the schema `sluice` is there.
const APPLIED_TABLE: &str = "public._sqlx_migrations";

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// What a migration run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MigrationReport {
    /// Migrations that were applied now.
    pub applied: usize,
    /// The version that the schema has now.
    pub version: i64,
}

/// How the database's schema compares with the one that this program was built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaState {
    /// There is none.
    Absent,
    /// So many migrations are missing.
    Behind(usize),
    /// It is the one.
    Current,
    /// A newer program has migrated it; this program still works, by the rule that migrations are safe for the
    /// previous one.
    Ahead,
}

impl Store {
    /// Applies what is missing, over the direct connection, one migrator at a time.
    pub async fn migrate(&self) -> Result<MigrationReport, StoreError> {
        let before = self.applied_versions().await?;
        let mut connection = PgConnection::connect_with(&self.direct).await?;
        // A newer program may have applied migrations that this one does not know.
        let mut migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ..Migrator::DEFAULT };
        migrator.set_ignore_missing(true);
        migrator.dangerous_set_table_name(APPLIED_TABLE);
        migrator
            .run_direct(None, &mut connection, false)
            .await
            .map_err(|source| StoreError::Migration(Box::new(source)))?;
        connection.close().await?;
        let after = self.applied_versions().await?;
        Ok(MigrationReport {
            applied: after.len().saturating_sub(before.len()),
            version: after.last().copied().unwrap_or(0),
        })
    }

    /// Compares the schema with what this program needs.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let applied = self.applied_versions().await?;
        let needed: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let missing = needed.iter().filter(|version| !applied.contains(version)).count();
        Ok(match (applied.is_empty(), missing) {
            (true, _) => SchemaState::Absent,
            (_, 0) if applied.len() > needed.len() => SchemaState::Ahead,
            (_, 0) => SchemaState::Current,
            (_, missing) => SchemaState::Behind(missing),
        })
    }

    async fn applied_versions(&self) -> Result<Vec<i64>, StoreError> {
        let is_there = sqlx::query_scalar!(
            r#"-- migrations_table_exists
            SELECT to_regclass('public._sqlx_migrations') IS NOT NULL AS "there!""#
        )
        .fetch_one(&self.pool)
        .await?;
        if !is_there {
            return Ok(Vec::new());
        }
        // The table is the migrator's own: it is not there when queries are checked against a fresh schema.
        let versions = sqlx::query_scalar::<_, i64>(
            "-- migrations_applied\nSELECT version FROM public._sqlx_migrations WHERE success ORDER BY version LIMIT 10000",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(versions)
    }
}
