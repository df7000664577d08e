//! The data plane: leases jobs, calls upstreams, settles what came of it.
//!
//! A [`Worker`] is one incarnation at a time: a row in the database, a beat on a thread of its own, and all leases
//! that the beat keeps. Its parts, in the order in which a job meets them:
//!
//! - `lease_loop` reads the board, lets `policy` plan, and leases; `slots` holds what is leased until a slot is free;
//! - `attempt` makes the one call of a lease and decides, by `policy`, what becomes of the job;
//! - `settle` writes outcomes in groups, and `spool` keeps those on the disk that the database does not take;
//! - `streams` writes the tokens of streamed answers that somebody waits for;
//! - `hand_back` gives back what was leased and not begun;
//! - `suspect` makes the call of a job that crashed its workers in a child process; `watchdog` ends a process in which an
//!   attempt is stuck;
//! - `targets`, `breakers` and `breaker_keeper` choose the upstream of a call, and keep calls from one that fails;
//! - `adaptive` and `adaptive_keeper` find out how many calls at once a provider takes that does not tell;
//! - `beat`, `incarnation` and `stray` keep the leases honest; `listener` hears hints; `drain` ends it all cleanly.
//!
//! Not here: SQL (`store`), HTTP (`provider`), decisions (`policy`), and whatever accepts or shows jobs (`scheduler`).

mod adaptive;
mod adaptive_keeper;
mod attempt;
mod backoff;
mod beat;
mod board;
mod board_reader;
mod breaker_keeper;
mod breakers;
mod call;
mod called;
mod clock;
mod cooldowns;
mod core;
mod drain;
mod error;
#[cfg(feature = "failpoints")]
mod faults;
mod gating;
mod hand_back;
mod handle;
mod health;
mod host;
mod incarnation;
mod lane_limits;
mod lease;
mod lease_loop;
mod lease_statement;
mod lease_wait;
mod listener;
mod lock_file;
mod one_call;
mod options;
mod pace;
mod pauses;
mod retry_budget;
mod routing;
mod settle;
mod settled_job;
mod settlement;
mod slots;
mod spool;
mod stray;
mod streams;
mod suspect;
mod targets;
mod upstream;
mod watchdog;
mod worker;

pub use board::{Blocked, BlockedBy};
pub use error::WorkerError;
pub use handle::WorkerHandle;
pub use host::host_and_boot;
pub use options::{ConfigurationSource, SecretLookup, SpoolOptions, Timing, WorkMode, WorkerOptions};
pub use settle::Unwritten;
pub use settled_job::SettledJob;
pub use spool::{SpoolState, inspect_spools};
pub use suspect::{SuspectCommand, attempt_for_parent};
pub use upstream::called_upstream;
pub use worker::Worker;
