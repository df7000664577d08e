//! An old snapshot that somebody holds: a backup, a report, a session that was forgotten. No dead row that it might see
//! can be removed while it is there.

use anyhow::Result;
use sqlx::{Connection, Executor, PgConnection};

use super::Database;

/// A transaction that keeps the rows of its beginning alive.
#[derive(Debug)]
pub struct HeldSnapshot(PgConnection);

impl HeldSnapshot {
    /// Takes a snapshot of the database.
    pub async fn take(database: &Database) -> Result<Self> {
        let mut connection = database.connect().await?;
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        // The snapshot is taken by the first statement.
        connection.execute("SELECT count(*) FROM pg_class").await?;
        Ok(Self(connection))
    }

    /// Lets go of it.
    pub async fn release(mut self) -> Result<()> {
        self.0.execute("ROLLBACK").await?;
        Ok(self.0.close().await?)
    }
}
