//! Why a worker can't start. Once it runs it does not fail: it waits, logs and tries again.

use std::{io, net::SocketAddr, path::PathBuf};

use sluice_config::ConfigErrors;
use sluice_store::StoreError;
use thiserror::Error;

/// What kept a worker from starting.
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
    /// A thread of its own, for the beat or the watchdog, could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}
