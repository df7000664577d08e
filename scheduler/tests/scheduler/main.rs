//! The control plane over real sockets, on real databases.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod batches;
mod brake;
mod bulk;
mod calls;
mod errors;
mod every_endpoint;
mod files;
mod fixture;
mod fuzz;
mod groups;
mod grpc;
mod hardening;
mod idempotency;
mod jobs;
mod keys;
mod lines;
mod maintenance;
mod many;
mod outage;
mod streams;
mod tokens;
mod waiting;
mod webhooks;
