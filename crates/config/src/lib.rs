//! `sluice.yaml`: read, checked in full, compared, and asked for routes and retry policies.
//!
//! The text goes into the database as it is, so that all replicas agree; secrets in it are references that workers
//! resolve ([`SecretRef`]), never keys. Everything that is wrong is reported at once, each with its place.
//!
//! Not here: files, environment and database (whoever calls reads them), and what a retry or a limit does (`policy`).

mod auth;
mod check;
mod configuration;
mod difference;
mod duration;
mod in_effect;
mod limit;
mod problem;
mod queue;
mod route;
mod secret;
mod section;
mod tree;
mod upstream;

pub use auth::{Auth, JwtAlgorithm};
pub use configuration::Configuration;
pub use difference::{Change, ChangeKind, difference};
pub use limit::{Limit, Window};
pub use problem::{ConfigErrors, Problem};
pub use queue::{Breaker, Queue};
pub use route::{Route, Target};
pub use secret::{Secret, SecretError, SecretRef};
pub use upstream::{Provider, Upstream};

#[cfg(test)]
mod tests;
