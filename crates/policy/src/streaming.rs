//! Which calls are streamed although nobody asked for a stream.
//!
//! A plain answer is silent until it is whole, and nobody can tell one that takes long from one that will never come. A
//! stream shows each token. It costs more work here and makes a body that was put together rather than received, so that
//! only what is large or slow is streamed.

use std::time::Duration;

/// Requests of so many bytes are large: reading them takes a while, and so may their answers.
pub const LARGE_REQUEST_BYTES: usize = 64 * 1024;
/// Answers of so many tokens are large: at the pace of most models some ten seconds and more.
pub const LARGE_ANSWER_TOKENS: u64 = 1024;
/// Where calls usually take so long, they are slow.
pub const SLOW_CALL: Duration = Duration::from_secs(20);

/// Whether a call is streamed. `max_tokens` is what the request allows for its answer, `usual` how long calls like it took
/// lately.
pub fn is_worth_a_stream(request_bytes: usize, max_tokens: Option<u64>, usual: Option<Duration>) -> bool {
    request_bytes >= LARGE_REQUEST_BYTES
        || max_tokens.is_some_and(|tokens| tokens >= LARGE_ANSWER_TOKENS)
        || usual.is_some_and(|usual| usual >= SLOW_CALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_slow_calls_are_streamed_and_others_are_not() {
        let s = Duration::from_secs;
        for (bytes, tokens, usual, expected) in [
            (300, None, None, false),
            (300, Some(1023), Some(s(19)), false),
            (LARGE_REQUEST_BYTES, None, None, true),
            (300, Some(1024), None, true),
            (300, Some(10), Some(s(20)), true),
        ] {
            assert_eq!(is_worth_a_stream(bytes, tokens, usual), expected, "{bytes} {tokens:?} {usual:?}");
        }
    }
}
