//! The control plane: accepts jobs over REST and gRPC, answers for them, and keeps the queue healthy.
//!
//! - [`Server`]: REST, the OpenAPI document and the web page;
//! - [`GrpcServer`]: the same over gRPC;
//! - [`Maintenance`]: the loops that expire leases, end deadlines and keep partitions;
//! - what the command line shares with REST: [`parse_submission`], [`job_json`], [`explain`] and the actions on many
//!   jobs ([`replay_matching`], [`cancel_matching`], [`release_matching`]).
//!
//! Not here: statements (`store`), leasing and calling (`worker`), decisions about retries (`policy`).

mod access;
mod batches;
mod door;
mod error;
mod explain;
mod files;
mod gates;
mod grpc;
mod handlers;
mod hub;
mod input;
mod job_json;
mod maintenance;
mod many;
mod server;
mod streams;
mod submitter;
mod webhooks;

pub use batches::BatchBell;
pub use error::SchedulerError;
pub use explain::{Blocker, BlockerKind, Explanation, explain};
pub use gates::{DeferredBy, Gates};
pub use grpc::GrpcServer;
pub use input::{InputFault, InvalidInput, filter_from_pairs, parse_submission, wall_clock};
pub use job_json::{BodyForm, ShownJob, attempt_json, job_json};
pub use maintenance::{Maintenance, MaintenanceHandle, MaintenanceOptions};
pub use many::{DryRun, ManyReport, cancel_matching, release_matching, replay_matching};
pub use server::{Keyless, Server, ServerHandle, ServerLimits, ServerOptions, openapi_json};
pub use webhooks::WebhookBell;
