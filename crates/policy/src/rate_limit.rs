//! What an upstream says about its limits: `x-ratelimit-*` and `anthropic-ratelimit-*`.
//!
//! Parsed defensively: what doesn't parse is absent. A reset is the time until the bucket is full, not how long to
//! wait. Not here: what is done about it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One limit as the upstream sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bucket {
    /// How much fits in.
    pub limit: Option<u64>,
    /// How much is left.
    pub remaining: Option<u64>,
    /// How long until it is full again.
    pub reset: Option<Duration>,
}

/// The limits that an answer's headers tell of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RateLimits {
    /// Requests.
    pub requests: Bucket,
    /// Tokens.
    pub tokens: Bucket,
}

/// Reads the limits from headers. `header` looks one up by its lower-case name; `now` is what moments are relative to.
pub fn rate_limits<'a>(header: impl Fn(&str) -> Option<&'a str>, now: DateTime<Utc>) -> RateLimits {
    let bucket = |names: &BucketNames| {
        let one = |names: &[&str; 2]| names.iter().find_map(|name| header(name));
        Bucket {
            limit: one(&names.limit).and_then(|text| text.trim().parse().ok()),
            remaining: one(&names.remaining).and_then(|text| text.trim().parse().ok()),
            reset: one(&names.reset).and_then(|text| duration(text).or_else(|| until(text, now))),
        }
    };
    RateLimits { requests: bucket(&REQUEST_NAMES), tokens: bucket(&TOKEN_NAMES) }
}

/// The headers of one bucket. They are written out, since they are looked up for every answer.
struct BucketNames {
    limit: [&'static str; 2],
    remaining: [&'static str; 2],
    reset: [&'static str; 2],
}

const REQUEST_NAMES: BucketNames = BucketNames {
    limit: ["x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit"],
    remaining: ["x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining"],
    reset: ["x-ratelimit-reset-requests", "anthropic-ratelimit-requests-reset"],
};

const TOKEN_NAMES: BucketNames = BucketNames {
    limit: ["x-ratelimit-limit-tokens", "anthropic-ratelimit-tokens-limit"],
    remaining: ["x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining"],
    reset: ["x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"],
};

/// A duration of numbers with units, largest first or not: `12ms`, `6m0s`, `1h2m3.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, tail) = rest.split_at(number_ends);
        let unit_ends = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "d" => 86_400.0,
        "h" => 3_600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" | "μs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

/// A moment in RFC 3339; one that has passed is no time at all.
fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let at = DateTime::parse_from_rfc3339(text.trim()).ok()?;
    Some(at.signed_duration_since(now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(headers: &[(&str, &str)]) -> RateLimits {
        let pairs: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let now = "2026-10-12T08:00:00Z".parse().unwrap();
        rate_limits(|name| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()), now)
    }

    #[test]
    fn the_headers_of_openai_are_read() {
        let limits = parse(&[
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-limit-tokens", "160000"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let reset = Some(Duration::from_millis(12));
        assert_eq!(limits.requests, Bucket { limit: Some(5_000), remaining: Some(4_999), reset });
        let reset = Some(Duration::from_mins(6));
        assert_eq!(limits.tokens, Bucket { limit: Some(160_000), remaining: None, reset });
    }

    #[test]
    fn resets_as_moments_are_read() {
        let limits = parse(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-reset", "2026-10-12T08:01:00Z"),
            ("anthropic-ratelimit-tokens-reset", "2026-10-12T07:00:00Z"),
        ]);
        assert_eq!(limits.requests.limit, Some(50));
        assert_eq!(limits.requests.reset, Some(Duration::from_mins(1)));
        assert_eq!(limits.tokens.reset, Some(Duration::ZERO));
    }

    #[test]
    fn durations_of_several_parts_add_up_and_nonsense_is_absent() {
        assert_eq!(duration("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(duration("250µs"), Some(Duration::from_micros(250)));
        for nonsense in ["", "5", "-1s", "s", "1x", "1..2s", "9e9s", "1 s", "99999999999999999999d"] {
            assert_eq!(duration(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", shaped in "[0-9.]{0,30}(d|h|m|s|ms|µs|é)") {
            duration(&text);
            duration(&shaped);
        }
    }
}
