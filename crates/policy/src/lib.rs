//! Decisions: what an answer means, whether and when a call is made again, what it cost.
//!
//! Pure functions: no I/O, no async, no clock and no randomness of their own; both come in as parameters. Not here:
//! who acts on a decision (`worker`, `scheduler`), and how it is written down (`store`).

pub mod aimd;
pub mod answer_json;
pub mod backoff;
pub mod board;
pub mod brake;
pub mod breaker;
pub mod classify;
pub mod cooldown;
pub mod floors;
pub mod price;
pub mod rate_limit;
pub mod retry;
pub mod retry_after;
pub mod retry_budget;
pub mod streaming;
pub mod target;
pub mod usage;
pub mod window;
