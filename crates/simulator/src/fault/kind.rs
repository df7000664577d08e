//! The words for what can go wrong.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sluice_domain::UnknownWord;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What goes wrong with a call. The words are stable: headers, markers, configurations and ledgers hold them.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum FaultKind {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

kinds! {
    /// Nothing goes wrong; only the details count (`latency_ms`, `tokens`).
    None = "none",

    /// 401, as for a wrong key.
    Http401 = "http_401",
    /// 402, as for an empty balance.
    Http402 = "http_402",
    /// 403.
    Http403 = "http_403",
    /// 404.
    Http404 = "http_404",
    /// 408.
    Http408 = "http_408",
    /// 409.
    Http409 = "http_409",
    /// 422.
    Http422 = "http_422",
    /// 429 without any word on when to come back.
    Http429 = "http_429",
    /// 499.
    Http499 = "http_499",
    /// 500.
    Http500 = "http_500",
    /// 502 with the HTML page of a proxy.
    Http502 = "http_502",
    /// 503.
    Http503 = "http_503",
    /// 504 with the HTML page of a proxy.
    Http504 = "http_504",
    /// 529.
    Http529 = "http_529",
    /// 307 to another place, which a client with a key must not follow blindly.
    Redirect = "redirect",
    /// 429 with `type` and `code` `insufficient_quota`: permanent.
    InsufficientQuota = "insufficient_quota",

    /// 429 with `Retry-After` in seconds (`after_ms`, default 2,000, rounded up).
    RetryAfterSeconds = "retry_after_seconds",
    /// 429 with `Retry-After` as an HTTP date (`after_ms`, default 2,000, rounded up).
    RetryAfterDate = "retry_after_date",
    /// 429 with `retry-after-ms` (`after_ms`, default 2,000).
    RetryAfterMs = "retry_after_ms",
    /// 429 with `Retry-After: -5`.
    RetryAfterNegative = "retry_after_negative",
    /// 429 with a `Retry-After` of some 10^20 seconds.
    RetryAfterHuge = "retry_after_huge",
    /// 429 with a `Retry-After` that is no number and no date.
    RetryAfterNonsense = "retry_after_nonsense",

    /// The request is read, and nothing is ever answered.
    Hang = "hang",
    /// 200 and keep-alives (blank lines or comments) for ever, but never an answer.
    HangKeepalive = "hang_keepalive",
    /// The answer comes one byte every `interval_ms` (default 1,000).
    Drip = "drip",
    /// The answer stops half way, for `duration_ms` or for ever.
    Stall = "stall",
    /// Half way the answer stops and only keep-alives come, for `duration_ms` or for ever.
    StallKeepalive = "stall_keepalive",
    /// The connection is reset after the request was read, before a byte of the answer. It is billed.
    ResetBeforeAnswer = "reset_before_answer",
    /// The connection is reset half way through the answer.
    ResetMidStream = "reset_mid_stream",
    /// The connection is closed half way through the answer, without its end.
    CloseMidStream = "close_mid_stream",
    /// The answer ends half way but as if all were well: no `[DONE]`, no usage, half a JSON.
    CutJson = "cut_json",

    /// More text follows after the JSON (after `[DONE]` in a stream).
    GarbageAfterJson = "garbage_after_json",
    /// The text holds bytes that are not UTF-8.
    BadUtf8 = "bad_utf8",
    /// The JSON is well formed and has strings where objects should be.
    WrongType = "wrong_type",
    /// A few MB of gzip that unpack to `bytes` (default 1 GiB).
    GzipBomb = "gzip_bomb",
    /// A well-formed answer of `bytes` (default 10 MB).
    Body10Mb = "body_10mb",
    /// A well-formed answer of `bytes` (default 1 GB), never in memory at once.
    Body1Gb = "body_1gb",
    /// A response header of `bytes` (default 1 MB).
    Header1Mb = "header_1mb",
    /// 200, and then an error object: in a stream after half of the chunks, in a plain answer as the body.
    ErrorEvent = "error_event",
    /// 200 with a web page.
    Html = "html",
    /// 200 and no body at all.
    EmptyBody = "empty_body",
    /// The answer's text holds an escaped NUL (`\u0000`): valid JSON.
    Nul = "nul",
    /// The answer's text holds a raw NUL byte: invalid JSON.
    RawNul = "raw_nul",
    /// Blank lines before the JSON, comments before the first chunk.
    BlankLines = "blank_lines",

    /// No usage.
    UsageMissing = "usage_missing",
    /// Negative token counts.
    UsageNegative = "usage_negative",
    /// Token counts of 1e20.
    UsageHuge = "usage_huge",

    /// 200 with `finish_reason` `insufficient_system_resource` and half of the text.
    InsufficientSystemResource = "insufficient_system_resource",
    /// 200 with `finish_reason` `content_filter` and half of the text.
    ContentFilter = "content_filter",
    /// 200 with `finish_reason` `stop` and no text.
    EmptyStop = "empty_stop",
    /// 200 with `finish_reason` `stop` and nothing but blanks, as JSON mode does when it fails.
    BlankJson = "blank_json",
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FaultKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord::new("fault", text, Self::ALL.iter().map(|kind| kind.as_str())))
    }
}
