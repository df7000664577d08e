//! The statements against a real Postgres: fences, edges, keys, expiry, and what the public functions allow.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod alone;
mod cancel_and_replay;
mod closing;
mod configuration;
mod edges;
mod expiry;
mod fixture;
mod identity;
mod late;
mod lease;
mod limit_beliefs;
mod limit_books;
mod limits;
mod migrating;
mod partitions;
mod plans;
mod random_input;
mod reaping;
mod rights;
mod settle;
mod sql_functions;
mod submit;
mod tenants;
