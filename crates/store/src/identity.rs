//! Which database this is, and the watch over it: what a name leads to can change while a process runs (a DNS record, a
//! pooler, a restored host), and what was leased from one database must not be settled in another.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{PgConnection, PgExecutor};
use thiserror::Error;
use uuid::Uuid;

use crate::{Store, StoreError};

/// The connection leads to another database than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the connection leads to another database than at the start")]
pub(crate) struct OtherDatabase;

/// Which database a store belongs to, once that was said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    database: OnceLock<Uuid>,
    has_changed: AtomicBool,
}

impl Identity {
    /// The database that the store belongs to.
    pub(crate) fn database(&self) -> Option<Uuid> {
        self.0.database.get().copied()
    }

    /// Whether statements may be made: none after one connection led elsewhere.
    pub(crate) fn test(&self) -> Result<(), OtherDatabase> {
        if self.0.has_changed.load(Ordering::Relaxed) { Err(OtherDatabase) } else { Ok(()) }
    }

    /// A database said that it is `found`; `None`: it has no such word, and so is not ours.
    pub(crate) fn compare(&self, found: Option<Uuid>) -> Result<(), OtherDatabase> {
        if self.database().is_some_and(|database| found != Some(database)) {
            self.0.has_changed.store(true, Ordering::Relaxed);
        }
        self.test()
    }

    /// Looks where a new connection leads.
    pub(crate) async fn test_connection(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.database().is_none() {
            return Ok(());
        }
        let found = match read(connection).await {
            Ok(found) => Some(found),
            // No such row or table: never so in a database that was migrated.
            Err(sqlx::Error::RowNotFound) => None,
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => None,
            Err(other) => return Err(other),
        };
        self.compare(found).map_err(|other| sqlx::Error::Configuration(Box::new(other)))
    }
}

async fn read(executor: impl PgExecutor<'_>) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar!(
        "-- database_identity
            SELECT id FROM sluice.identity LIMIT 1"
    )
    .fetch_one(executor)
    .await
}

impl Store {
    /// The database's own id: the same after a dump and restore, and on a standby.
    pub async fn database_id(&self) -> Result<Uuid, StoreError> {
        Ok(read(&self.pool).await?)
    }

    /// From now on this store, with all its clones, belongs to that database. If a connection is found to lead to another
    /// one, no statement is made any more: each ends as [`StoreError::OtherDatabase`], or waits in vain for a connection.
    pub fn belongs_to(&self, database: Uuid) {
        // The first word counts; a second store of the same process has its own.
        let _ = self.identity.0.database.set(database);
    }

    /// Whether a connection was found to lead to another database.
    pub fn leads_elsewhere(&self) -> bool {
        self.identity.test().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_belongs_nowhere_may_go_anywhere_and_a_change_is_for_ever() {
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let identity = Identity::default();
        assert_eq!(identity.compare(Some(other)), Ok(()));
        identity.0.database.set(ours).unwrap();
        assert_eq!(identity.compare(Some(ours)), Ok(()));
        assert_eq!(identity.compare(None), Err(OtherDatabase));
        assert_eq!(identity.compare(Some(ours)), Err(OtherDatabase), "some connections may still lead there");
    }
}
