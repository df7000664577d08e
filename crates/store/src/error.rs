//! What can go wrong between us and the database.

use thiserror::Error;

use crate::identity::OtherDatabase;

/// A statement failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database can't be reached, no connection was free in time, or it can't write at all for now. Nothing is known of
    /// the statement if it was under way.
    #[error("reach the database")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused or broke off the statement.
    #[error("run a statement on the database")]
    Statement(#[source] sqlx::Error),
    /// The URL can't be understood.
    #[error("understand the database URL")]
    BadUrl(#[source] sqlx::Error),
    /// The incarnation was found dead; this process must drop its leases and go on as a new one.
    #[error("act for an incarnation that is dead")]
    IncarnationDead,
    /// The connection leads to another database than the one that the store belongs to. Nothing was done there.
    #[error("use this database: it is another one than at the start")]
    OtherDatabase,
    /// The schema is not the one that this program needs.
    #[error("use this database: {0}")]
    Schema(String),
    /// A migration failed; the database is as it was before it.
    #[error("migrate the database")]
    Migration(#[source] Box<sqlx::migrate::MigrateError>),
    /// A row holds a word that this program does not know: a newer program wrote it.
    #[error("understand a stored value: {0}")]
    UnknownValue(String),
}

impl StoreError {
    /// Whether the same call may work when the database is back.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OtherDatabase)
    }

    /// What a caller that waited long enough for a statement makes of its silence.
    pub fn timed_out() -> Self {
        Self::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
    }

    /// Whether nobody answered in time: that may be the fault of one statement alone.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut)
    }

    /// Whether all connections of the pool were in use: that says nothing about the database.
    pub fn is_pool_exhausted(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::PoolTimedOut))
    }

    /// The SQLSTATE, where the database gave one.
    pub fn sql_state(&self) -> Option<String> {
        match self {
            Self::Unavailable(source) | Self::Statement(source) => {
                source.as_database_error()?.code().map(std::borrow::Cow::into_owned)
            }
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &source {
            return match database.code().as_deref() {
                Some("SL001") => Self::IncarnationDead,
                Some("SL002") => Self::OtherDatabase,
                Some(code) if is_of_an_outage(code) => Self::Unavailable(source),
                _ => Self::Statement(source),
            };
        }
        match source {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(source),
            sqlx::Error::Configuration(cause) if cause.is::<OtherDatabase>() => Self::OtherDatabase,
            sqlx::Error::Configuration(_) => Self::BadUrl(source),
            _ => Self::Statement(source),
        }
    }
}

/// Whether it is the database that can't, whoever asks, until somebody does something about it.
fn is_of_an_outage(state: &str) -> bool {
    // 08: connection; 57P0x: shutting down, crashed, starting up.
    state.starts_with("08")
        || state.starts_with("57P0")
        // Too many connections; disk full; the disk fails; read-only, as a standby whose primary is gone.
        || ["53300", "53100", "58030", "25006"].contains(&state)
}
