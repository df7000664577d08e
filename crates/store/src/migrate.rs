//! Bringing the schema up to date.

use std::time::{Duration, Instant};

use sqlx::{
    Connection, PgConnection,
    migrate::{MigrateError, Migrator},
};

use crate::{CrashPoint, Store, StoreError, crash_point};

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

/// For how long locks are tried for in all, and how long a migrator rests before it tries again.
const LOCKS_PATIENCE: Duration = Duration::from_mins(5);
const LOCKS_REST: Duration = Duration::from_millis(250);

/// Whether a migration failed since somebody held a lock that it needs: each is one transaction, and can be tried again.
fn is_about_locks(error: &MigrateError) -> bool {
    let (MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)) = error else {
        return false;
    };
    let state = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(state.as_deref(), Some("55P03" | "40P01"))
}

impl Store {
    /// Applies what is missing, over the direct connection, one migrator at a time.
    pub async fn migrate(&self) -> Result<MigrationReport, StoreError> {
        let before = self.applied_versions().await?;
        let begun = Instant::now();
        while let Err(error) = self.migrate_once().await {
            if !is_about_locks(&error) || begun.elapsed() > LOCKS_PATIENCE {
                return Err(match error {
                    MigrateError::Execute(source) if source.as_database_error().is_none() => source.into(),
                    other => StoreError::Migration(Box::new(other)),
                });
            }
            tokio::time::sleep(LOCKS_REST).await;
        }
        let after = self.applied_versions().await?;
        Ok(MigrationReport {
            applied: after.len().saturating_sub(before.len()),
            version: after.last().copied().unwrap_or(0),
        })
    }

    /// A lock that is not had at once is given up: while a migration waits for one, all others wait behind it.
    async fn migrate_once(&self) -> Result<(), MigrateError> {
        let mut connection = PgConnection::connect_with(&self.direct).await?;
        sqlx::raw_sql("SET lock_timeout = '1s'").execute(&mut connection).await?;
        // A newer program may have applied migrations that this one does not know.
        let mut migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ..Migrator::DEFAULT };
        migrator.set_ignore_missing(true);
        migrator.dangerous_set_table_name(APPLIED_TABLE);
        // One by one, and then all together: that finds what was changed afterwards.
        let missing = self.missing_versions().await.map_err(|error| MigrateError::Source(Box::new(error)))?;
        let mut migrated = Ok(());
        for target in missing.into_iter().map(Some).chain([None]) {
            migrated = migrator.run_direct(target, &mut connection, false).await;
            if migrated.is_err() {
                break;
            }
            crash_point(CrashPoint::MigrationApplied);
        }
        connection.close().await?;
        migrated
    }

    /// Compares the schema with what this program needs.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let applied = self.applied_versions().await?;
        let missing = missing_of(&applied).len();
        Ok(match (applied.is_empty(), missing) {
            (true, _) => SchemaState::Absent,
            (_, 0) if applied.len() > MIGRATOR.iter().count() => SchemaState::Ahead,
            (_, 0) => SchemaState::Current,
            (_, missing) => SchemaState::Behind(missing),
        })
    }

    async fn missing_versions(&self) -> Result<Vec<i64>, StoreError> {
        Ok(missing_of(&self.applied_versions().await?))
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

/// What this program needs and is not applied, in order.
fn missing_of(applied: &[i64]) -> Vec<i64> {
    MIGRATOR.iter().map(|migration| migration.version).filter(|version| !applied.contains(version)).collect()
}
