//! The clocks of a call.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long each part of a call may take. All run on the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timeouts {
    /// Resolving the name, connecting and the TLS handshake together. Default 2 s. Running out of it means that
    /// nothing was sent.
    pub connect: Duration,
    /// From there until the connection has taken the whole request. Default 30 s.
    pub send: Duration,
    /// From there until the first byte of the answer that is no keep-alive. Default 15 min: DeepSeek lets a request
    /// wait for up to 10 min, with blank lines or comments to keep the connection, and then computes a plain answer.
    pub first_byte: Duration,
    /// Between two pieces of an answer; keep-alives don't count as one. Default 60 s.
    pub between_bytes: Duration,
    /// The whole call. Default 1 h: the longest answers that models give, at the pace that they give them.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            send: Duration::from_secs(30),
            first_byte: Duration::from_mins(15),
            between_bytes: Duration::from_mins(1),
            total: Duration::from_hours(1),
        }
    }
}
