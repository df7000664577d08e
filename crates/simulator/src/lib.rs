//! A deterministic, strict and nasty upstream: it answers as OpenAI's and DeepSeek's APIs do, refuses what they
//! refuse, keeps limits to the letter, breaks on order in every way that was ever seen, and keeps a ledger of every
//! call it received.
//!
//! ```no_run
//! # async fn example() -> Result<(), sluice_simulator::SimulatorError> {
//! let simulator = sluice_simulator::start(sluice_simulator::SimulatorConfig::default()).await?;
//! let url = format!("{}/v1/chat/completions", simulator.base_url());
//! // … call it …
//! assert_eq!(simulator.calls().len(), 0);
//! simulator.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Answers depend on the seed and the prompt alone and hold the start of the prompt's hash ([`prompt_sha256`]), so
//! that a test can tell whether the right answer reached the right question. Faults are ordered by the
//! configuration, by a header or by a marker in the prompt: see [`FaultKind`] for the words and [`Fault`] for the
//! syntax. `/sim/stats`, `/sim/ledger` and `/sim/config` serve tests in other processes.
//!
//! Not here: a language model, TLS, batches and files.

mod accounts;
mod answer;
mod api_error;
mod body;
mod call;
mod call_guard;
mod clock;
mod config;
mod control;
mod credentials;
mod error;
mod fault;
mod fault_answer;
mod latency;
mod ledger;
mod random;
mod rate_limit;
mod request;
mod script;
mod server;
mod service;
mod shape;
mod simulator;
mod socket;
mod tokens;

pub use answer::prompt_sha256;
pub use config::{ApiKey, Dialect, Limits, ModelConfig, ModelKind, SimulatorConfig, TokenRange};
pub use control::ConfigPatch;
pub use credentials::CredentialCheck;
pub use error::SimulatorError;
pub use fault::{Fault, FaultKind, FaultParams, FaultRule, FaultSyntaxError};
pub use latency::{Distribution, Latency};
pub use ledger::{BilledUsage, CallArrival, CallEnd, CallRecord, Ended, read_ledger};
pub use server::{SimulatorHandle, start};
pub use simulator::{ModelConcurrency, SimulatorStats};
pub use tokens::count_tokens;
