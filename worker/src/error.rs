//! Why a worker can't start, or ends though nobody asked it to. Of all else it says nothing: it waits, logs and tries again.

use std::{io, net::SocketAddr, path::PathBuf};

use sluice_config::ConfigErrors;
use sluice_store::StoreError;
use thiserror::Error;

/// What kept a worker from starting, or from going on.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The database could not be used.
    #[error("{doing}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: StoreError,
    },
    /// The configuration in the database can't be understood: a newer program may have written it.
    #[error("understand configuration {version} of the database")]
    Configuration {
        /// Which one.
        version: i64,
        /// What is wrong with it.
        source: ConfigErrors,
    },
    /// The lock file could not be made.
    #[error("make and lock {path}")]
    LockFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address for health and metrics can't be used.
    #[error("listen on {listen} for health and metrics")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The connection leads to another database than at the start. What was leased here can't be settled there.
    #[error(
        "stay with this database: DATABASE_URL or DATABASE_DIRECT_URL now leads to another one, which has another \
         sluice.identity; see where it leads, and start the worker again"
    )]
    OtherDatabase,
    /// An attempt was stuck, and has freed its thread at last, when nothing more could be started here.
    #[error("go on after an attempt that was stuck; start the worker again")]
    WasStuck,
    /// A thread of its own, for the beat or the watchdog, could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}
