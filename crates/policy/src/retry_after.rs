//! How long an upstream asks to be left alone: `retry-after`, `retry-after-ms`, `x-ms-retry-after-ms`.
//!
//! What doesn't parse is absent, and so are zero and negative values: they ask for nothing. A number too large to
//! hold is the longest wait there is, since a long wait is what it says; `backoff` caps it.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

/// The wait that the headers ask for: the longest, where several are given. `header` looks one up by its lower-case
/// name; `now` is what dates are relative to (the answer's own `Date`, where it has one, so that the clocks of
/// workers don't matter).
pub fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>, now: DateTime<Utc>) -> Option<Duration> {
    let in_ms = |name: &str| header(name).and_then(|text| number(text, 1e-3));
    let in_seconds_or_at =
        header("retry-after").and_then(|text| number(text, 1.0).or_else(|| date(text, now)));
    [in_seconds_or_at, in_ms("retry-after-ms"), in_ms("x-ms-retry-after-ms")].into_iter().flatten().max()
}

/// A plain decimal number times `unit_s` seconds.
fn number(text: &str, unit_s: f64) -> Option<Duration> {
    let text = text.trim();
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let seconds = text.parse::<f64>().ok()? * unit_s;
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// A moment in any of the three forms of HTTP dates.
fn date(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    at.duration_since(SystemTime::from(now)).ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-10-12T08:00:00Z".parse().unwrap()
    }

    fn parse(headers: &[(&str, &str)]) -> Option<Duration> {
        let pairs: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        retry_after(|name| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()), now())
    }

    #[test]
    fn seconds_dates_and_milliseconds_are_understood() {
        let s = |seconds: f64| Some(Duration::from_secs_f64(seconds));
        for (name, value, wait) in [
            ("retry-after", "7", s(7.0)),
            ("retry-after", " 1.5 ", s(1.5)),
            ("retry-after", "Mon, 12 Oct 2026 08:00:30 GMT", s(30.0)),
            ("retry-after", "Monday, 12-Oct-26 08:00:30 GMT", s(30.0)),
            ("retry-after", "Mon Oct 12 08:00:30 2026", s(30.0)),
            ("retry-after-ms", "1500", s(1.5)),
            ("x-ms-retry-after-ms", "250", s(0.25)),
            ("retry-after", "99999999999999999999999999", Some(Duration::MAX)),
        ] {
            assert_eq!(parse(&[(name, value)]), wait, "{name}: {value}");
        }
    }

    #[test]
    fn what_asks_for_nothing_or_is_nonsense_is_absent() {
        for value in
            ["0", "-1", "", "soon", "1e400", "inf", "NaN", "+5", "..", "7 s", "Mon, 12 Oct 2026 07:59:59 GMT"]
        {
            assert_eq!(parse(&[("retry-after", value)]), None, "{value}");
        }
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn of_several_the_longest_counts() {
        let wait = parse(&[("retry-after", "2"), ("retry-after-ms", "1999")]);
        assert_eq!(wait, Some(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            parse(&[("retry-after", &text), ("retry-after-ms", &text)]);
        }
    }
}
