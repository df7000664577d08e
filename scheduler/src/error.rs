//! What can keep the control plane from starting or a shared action from working.

use std::net::SocketAddr;

use sluice_config::ConfigErrors;
use sluice_store::StoreError;
use thiserror::Error;

/// The control plane failed.
#[derive(Debug, Error)]
pub enum SchedulerError {
    /// The address can't be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Whoever reaches the address may do everything, and nobody said that this is meant.
    #[error(
        "listen on {0} without API keys: everybody who reaches that address could submit and cancel jobs; \
         make a key with `sluice keys create`, listen on 127.0.0.1, or set SLUICE_ALLOW_KEYLESS=1"
    )]
    KeylessElsewhere(SocketAddr),
    /// The configuration in the database can't be understood: a newer program may have applied it.
    #[error("understand the applied configuration, version {version}")]
    Configuration {
        /// Its version.
        version: i64,
        /// What is wrong with it.
        #[source]
        source: ConfigErrors,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
