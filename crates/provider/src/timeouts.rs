//! The clocks of a call.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long each part of a call may take. All run on the monotonic clock.
///
/// Two clocks run on an answer. That of the transport, `first_byte`, asks whether the other side is there; signs of life
/// (blank lines before JSON, comments and empty chunks of a stream) start it again. Those of the content, `first_token`
/// and `between_tokens`, ask whether it gets on; signs of life mean nothing to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timeouts {
    /// Resolving the name, connecting and the TLS handshake together. Default 2 s. Running out of it means that
    /// nothing was sent.
    pub connect: Duration,
    /// From there until the connection has taken the whole request. Default 30 s.
    pub send: Duration,
    /// From there until the first byte of the answer, and between signs of life until the first token. Default 10 min: a
    /// plain answer may come without a byte before it is computed.
    pub first_byte: Duration,
    /// From the end of the request until the first piece of the answer that is more than a sign of life. Default 15 min:
    /// DeepSeek lets a request wait for up to 10 min, with signs of life, and then computes a plain answer.
    pub first_token: Duration,
    /// Between two such pieces. Default 60 s.
    pub between_tokens: Duration,
    /// The whole call. Default 1 h: the longest answers that models give, at the pace that they give them.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            send: Duration::from_secs(30),
            first_byte: Duration::from_mins(10),
            first_token: Duration::from_mins(15),
            between_tokens: Duration::from_mins(1),
            total: Duration::from_hours(1),
        }
    }
}
