//! Waits and limits in headers, and the spans and times that people write.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::{SeedableRng, rngs::StdRng};
use sluice_policy::{
    backoff::{MAX_RETRY_AFTER, RetryPolicy},
    rate_limit::{RateLimits, rate_limits},
    retry_after::retry_after,
};

#[path = "../../../cli/src/times.rs"]
#[expect(dead_code, reason = "the rest is for showing times")]
mod times;

const WAITS: [&str; 3] = ["retry-after", "retry-after-ms", "x-ms-retry-after-ms"];
/// Starts are spread by less than this above the wait that was asked for.
const MOST_SPREAD: Duration = Duration::from_secs(6);

/// Each line is the value of some header; the first bytes are also taken for a number of seconds.
pub(crate) fn check(bytes: &[u8]) {
    if let Some((number, _)) = bytes.split_first_chunk::<4>() {
        check_written(u64::from(u32::from_le_bytes(*number)));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for value in text.lines().take(8) {
        check_waits(value);
        check_limits(value);
        check_moment(value);
    }
}

fn now() -> DateTime<Utc> {
    "2026-10-12T08:00:00Z".parse().expect("a fixed time")
}

/// Seconds that a server writes in one of its ways are what is read.
fn check_written(seconds: u64) {
    let wait = Some(Duration::from_secs(seconds)).filter(|wait| !wait.is_zero());
    let text = seconds.to_string();
    assert_eq!(retry_after(|name| (name == "retry-after").then_some(&*text), now()), wait);
    let text = (u128::from(seconds) * 1000).to_string();
    assert_eq!(retry_after(|name| (name == "retry-after-ms").then_some(&*text), now()), wait);
    let text = format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let reset = reset(&text);
    assert_eq!(reset, Some(Duration::from_secs(seconds)), "{text}");
}

fn reset(text: &str) -> Option<Duration> {
    rate_limits(|name| (name == "x-ratelimit-reset-tokens").then_some(text), now()).tokens.reset
}

fn check_waits(value: &str) {
    let single = WAITS.map(|known| retry_after(|name| (name == known).then_some(value), now()));
    let all = retry_after(|name| WAITS.contains(&name).then_some(value), now());
    assert_eq!(all, single.into_iter().flatten().max(), "of several, the longest counts");
    assert!(all.is_none_or(|wait| !wait.is_zero()), "a wait of nothing is none");
    let Some(wait) = all else { return };
    let floor = wait.min(MAX_RETRY_AFTER);
    for tries in [0, 1, u16::MAX] {
        let delay = RetryPolicy::default().delay(tries, Some(wait), &mut StdRng::seed_from_u64(7));
        let most = floor.max(RetryPolicy::default().max_delay) + MOST_SPREAD;
        assert!((floor..=most).contains(&delay), "{delay:?} for a wait of {wait:?}");
    }
}

fn check_limits(value: &str) {
    let limits = rate_limits(|_| Some(value), now());
    assert_eq!(limits.requests, limits.tokens, "requests and tokens are read alike");
    assert_eq!(limits.tokens.limit, limits.tokens.remaining);
    assert_eq!(limits.tokens.limit, value.trim().parse().ok());
    assert_eq!(rate_limits(|_| None, now()), RateLimits::default());
    // A number alone is no duration, and a duration no number.
    assert!(limits.tokens.limit.is_none() || limits.tokens.reset.is_none(), "{value:?}");
}

fn check_moment(value: &str) {
    let Ok(moment) = times::moment(value) else { return };
    for now in [DateTime::UNIX_EPOCH, now(), DateTime::<Utc>::MAX_UTC] {
        let (before, after) = (moment.before(now), moment.after(now));
        match moment {
            times::Moment::At(time) => assert_eq!((before, after), (time, time)),
            times::Moment::Span(span) => {
                assert!(before <= now && now <= after, "{span:?} leads the wrong way");
                assert!(!times::span_shown(span).is_empty());
            }
        }
    }
}
