//! The control plane over real sockets, on real databases.

mod bulk;
mod errors;
mod fixture;
mod fuzz;
mod hardening;
mod idempotency;
mod jobs;
mod lines;
mod maintenance;
mod many;
mod outage;
mod waiting;
