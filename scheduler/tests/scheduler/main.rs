//! The control plane over real sockets, on real databases.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod brake;
mod bulk;
mod errors;
mod fixture;
mod fuzz;
mod groups;
mod grpc;
mod hardening;
mod idempotency;
mod jobs;
mod lines;
mod maintenance;
mod many;
mod outage;
mod waiting;
