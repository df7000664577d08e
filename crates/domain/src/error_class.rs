//! Why an attempt or a job failed, in one stable word each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::UnknownWord;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// The class of a failure: stable words that users filter by and alert on. Whether one is retried, and
        /// whether it spends a try, is decided in `policy`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum ErrorClass {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl ErrorClass {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

classes! {
    /// 429: too many requests or tokens for now.
    RateLimited = "rate_limited",
    /// 402, or a 429 that says `insufficient_quota`: no money left. Permanent until somebody pays.
    QuotaExhausted = "quota_exhausted",
    /// 401: the key is wrong.
    Unauthorized = "unauthorized",
    /// 403: the key may not do this.
    Forbidden = "forbidden",
    /// 400, 413, 422 and the other 4xx: the request itself is wrong.
    InvalidRequest = "invalid_request",
    /// 404: no such path or model at the upstream.
    NotFound = "not_found",
    /// 408, 499, 504: the upstream or something before it gave up waiting.
    UpstreamTimeout = "upstream_timeout",
    /// 409: the upstream was in the way of itself.
    Conflict = "conflict",
    /// 500, 502 and other 5xx.
    ServerError = "server_error",
    /// 503, 529: the upstream asks for patience.
    Overloaded = "overloaded",
    /// 200, but partial: `insufficient_system_resource`, or an empty `stop`.
    IncompleteAnswer = "incomplete_answer",
    /// 200, but JSON mode answered blanks.
    InvalidOutput = "invalid_output",
    /// A success status whose body is not what the API promises (cut JSON, wrong type, an error event in a stream).
    MalformedAnswer = "malformed_answer",
    /// An answer that was larger than we keep.
    OversizedAnswer = "oversized_answer",
    /// Nothing was sent: refused, unresolvable, bad certificate, connect timeout.
    NotSent = "not_sent",
    /// Sent, and the connection broke before the answer was complete.
    ConnectionLost = "connection_lost",
    /// Sent, and no byte or token came for too long.
    Stalled = "stalled",
    /// Sent, and the total time ran out.
    CallTimeout = "call_timeout",
    /// The worker that held the lease stopped beating.
    LeaseLost = "lease_lost",
    /// The job's deadline passed.
    DeadlineExceeded = "deadline_exceeded",
    /// Somebody cancelled it.
    Cancelled = "cancelled",
    /// The processes that worked on it kept crashing.
    Poison = "poison",
    /// No route leads from the model that the job asks for to an upstream.
    NoRoute = "no_route",
    /// A fault of Sluice itself.
    Internal = "internal",
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ErrorClass {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .iter()
            .copied()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| UnknownWord::new("error_class", text, Self::ALL.iter().map(|c| c.as_str())))
    }
}
