//! The gRPC door, by the generated client over real sockets.

mod errors;
mod fixture;
mod idempotency;
mod jobs;
mod keys;
mod server;
mod submit_many;
mod waiting;
