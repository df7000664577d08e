//! How limits are spoken of in HTTP: refusals and `x-ratelimit-*` headers, in the dialect of the model. Pure; how
//! they are kept is `accounts`' matter.

use http::{HeaderName, HeaderValue};

use crate::{
    accounts::{Refusal, Remaining},
    api_error::ApiError,
    config::Dialect,
};

/// A refusal by the limits. DeepSeek says only that it is too much; OpenAI says when to come back.
pub(crate) fn too_many(dialect: Dialect, model: &str, refusal: &Refusal) -> ApiError {
    let error = |kind, message: String| ApiError::new(429, kind, Some("rate_limit_exceeded"), message);
    let (error, retry_after, remaining) = match *refusal {
        Refusal::Concurrency { limit } => {
            let message =
                format!("Too many calls to {model} are under way: limit {limit}. Please try again later.");
            return error("requests", message);
        }
        Refusal::Requests { limit, retry_after, remaining } => {
            let message = format!("Rate limit reached for {model} on requests per min (RPM): Limit {limit}.");
            (error("requests", message), Some(retry_after), remaining)
        }
        Refusal::Tokens { limit, used, asked, retry_after, remaining } => {
            let message = format!(
                "Rate limit reached for {model} on tokens per min (TPM): Limit {limit}, Used {used}, Requested {asked}."
            );
            (error("tokens", message), retry_after, remaining)
        }
    };
    if dialect == Dialect::Deepseek {
        return error;
    }
    let error = remaining_headers(&remaining)
        .into_iter()
        .fold(error, |error, (name, value)| error.with_header(name, value));
    match retry_after {
        // Rounded up, so that nobody who obeys comes too early.
        Some(after) => error
            .with_header("retry-after", (after.as_micros().div_ceil(1_000_000)).to_string())
            .with_header("retry-after-ms", (after.as_micros().div_ceil(1_000)).to_string()),
        None => error,
    }
}

fn remaining_headers(remaining: &Remaining) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if let Some((limit, left, full_in)) = remaining.requests {
        headers.push(("x-ratelimit-limit-requests", limit.to_string()));
        headers.push(("x-ratelimit-remaining-requests", left.to_string()));
        headers.push(("x-ratelimit-reset-requests", format!("{}ms", full_in.as_millis())));
    }
    if let Some((limit, left, full_in)) = remaining.tokens {
        headers.push(("x-ratelimit-limit-tokens", limit.to_string()));
        headers.push(("x-ratelimit-remaining-tokens", left.to_string()));
        headers.push(("x-ratelimit-reset-tokens", format!("{}ms", full_in.as_millis())));
    }
    headers
}

/// The headers of an admitted call. DeepSeek sends none.
pub(crate) fn rate_headers(dialect: Dialect, remaining: &Remaining) -> Vec<(HeaderName, HeaderValue)> {
    if dialect == Dialect::Deepseek {
        return Vec::new();
    }
    let headers = remaining_headers(remaining).into_iter();
    headers
        .filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        })
        .collect()
}
