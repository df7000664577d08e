//! A private Postgres in the product's data directory, for everybody who has no database yet.
//!
//! [`PrivatePostgres::open`] finds server programs on this machine (or a Docker engine), makes a cluster the first
//! time, starts it or joins it where another process runs it, and survives whatever an unclean stop left behind. The
//! server listens on a Unix socket in a folder that only its owner may enter. The last process that uses it stops it.
//!
//! Not here: the schema (`store`), and anything that talks SQL beyond making the database.

mod account;
mod docker;
mod download;
mod error;
mod folders;
mod lock;
mod options;
mod postmaster;
mod private;
mod programs;
mod programs_server;
mod settings;
mod wire;

pub use error::ClusterError;
pub use options::{ClusterOptions, Durability, ServerSource, default_data_dir};
pub use private::{Closed, PrivatePostgres};
pub use programs::{OLDEST_MAJOR, Programs, find_programs};
