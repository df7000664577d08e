//! What can go wrong with the simulator itself; what it answers to clients is in `api_error`.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::fault::FaultSyntaxError;

/// A failure of the simulator.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// The address can't be listened on.
    #[error("listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger's file can't be opened, read or written.
    #[error("use the ledger {path}")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of the ledger, other than a torn last one, is none of ours.
    #[error("read line {line} of the ledger {path}")]
    LedgerLine {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration makes no sense.
    #[error("use the simulator's configuration: {0}")]
    Config(String),
    /// A fault is not described right.
    #[error("read a fault")]
    Fault(#[from] FaultSyntaxError),
}
