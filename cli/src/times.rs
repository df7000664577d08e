//! Times and spans of time as users write and read them: `1h`, `30m`, RFC 3339; "3m 12s".

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment that a user gave: itself, or so far from now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// That time.
    At(DateTime<Utc>),
    /// So far from now by the database clock; whether back or ahead, the option says.
    Span(Duration),
}

impl Moment {
    /// The time it means when it is `now` and a span leads back. One that leads out of the calendar means "ever".
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Span(span) => now.checked_sub_signed(delta(span)).unwrap_or(DateTime::UNIX_EPOCH),
        }
    }

    /// The time it means when it is `now` and a span leads ahead.
    pub fn after(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Span(span) => now.checked_add_signed(delta(span)).unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }
}

fn delta(span: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(span).unwrap_or(chrono::TimeDelta::MAX)
}

/// Reads `1h`, `30m` or a time in RFC 3339.
pub fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(Moment::Span(span));
    }
    time(text).map(Moment::At).map_err(|_| {
        "must be a span such as 30m, 1h or 2d, or a time such as 2026-10-01T08:00:00Z".to_owned()
    })
}

/// Reads a time in RFC 3339.
pub fn time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "must be a time such as 2026-10-01T08:00:00Z".to_owned())
}

/// A time for people, to the second.
pub fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A time for scripts: RFC 3339 in UTC with microseconds, as over REST.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A span for people, in its two largest units.
pub fn span_shown(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{}ms", span.as_millis()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_means_so_long_ago_and_a_time_means_itself() {
        let now = time("2026-10-01T08:00:00Z").unwrap();
        assert_eq!(moment("1h").unwrap().before(now), time("2026-10-01T07:00:00Z").unwrap());
        assert_eq!(
            moment("2026-09-01T00:00:00+02:00").unwrap().before(now),
            time("2026-08-31T22:00:00Z").unwrap()
        );
        assert!(moment("yesterday").unwrap_err().contains("30m"));
        assert_eq!(moment("900000y").unwrap().before(now), DateTime::UNIX_EPOCH);
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        for (seconds, text) in [(0, "0ms"), (59, "59s"), (61, "1m 1s"), (3_700, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(span_shown(Duration::from_secs(seconds)), text);
        }
    }
}
