//! The only outbound calls of Sluice: the HTTP client of upstreams, their dialects, and the reader of their streams.
//!
//! A call ends in a [`CallReport`] that says what was seen on the wire, never what an error text says: nothing was
//! sent, sent with an unknown answer, or answered. Nothing here retries: one [`Client::call`] is at most one request.
//! Not here: whether an answer is a success (`policy::classify`), what follows from it (`policy::retry`), and when a
//! call may be made (`worker`).

mod assemble;
mod call;
mod client;
mod credential;
mod error;
mod intake;
mod judge;
mod outgoing;
mod pool;
mod probe;
mod read;
mod report;
mod request_body;
mod sse;
mod timeouts;
mod upstream;
mod wire_error;

pub use assemble::Assembly;
pub use client::Client;
pub use credential::{Credential, Hmac, Jwt, JwtAlgorithm, OAuth2, Secret};
pub use error::ProviderError;
pub use intake::StreamTap;
pub use probe::{Balance, CurrencyBalance};
pub use report::{Answer, CallReport, CallRequest, MayBegin, NotSentReason, Waited, WireOutcome};
pub use sse::{SseEvent, SseReader};
pub use timeouts::Timeouts;
pub use upstream::{DEFAULT_MAX_ANSWER_BYTES, DEFAULT_MAX_IDLE_CONNECTIONS, Dialect, Upstream};
