//! `sluice.yaml`: read, checked in full, compared, and asked for routes and retry policies.
//!
//! The text goes into the database as it is, so that all replicas agree; secrets in it are references that workers
//! resolve ([`SecretRef`]), never keys. Everything that is wrong is reported at once, each with its place.
//!
//! Not here: files, environment and database (whoever calls reads them), and what a retry or a limit does (`policy`).

mod access;
mod auth;
mod check;
mod configuration;
mod difference;
mod duration;
mod limit;
mod problem;
mod queue;
mod route;
mod secret;
mod section;
mod tenant;
mod timeouts;
mod tree;
mod upstream;
mod webhooks;

pub use access::{Access, RequestSigner, TokenAlgorithm, TokenIssuer};
pub use auth::{Auth, ClientAuth, JwtAlgorithm, JwtSigning};
pub use configuration::Configuration;
pub use difference::{Change, ChangeKind, difference};
pub use limit::{Adaptive, Limit, Window};
pub use problem::{ConfigErrors, Problem};
pub use queue::{Breaker, Queue};
pub use route::{Route, Target};
pub use secret::{Secret, SecretError, SecretRef};
pub use tenant::Tenant;
pub use timeouts::Timeouts;
pub use upstream::{Provider, Streaming, Upstream};
pub use webhooks::{WebhookSecret, Webhooks};

#[cfg(test)]
mod tests;
