//! Durations as they are written: a number and a unit.

use std::time::Duration;

use serde::Serializer;

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Parses `500ms`, `2s`, `1.5m`, `1h`, `2d`; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let number = number.trim_end();
    let is_decimal =
        !number.is_empty() && number.len() <= 15 && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let count: f64 = number.parse().ok().filter(|_| is_decimal)?;
    Duration::try_from_secs_f64(count * nanos as f64 / 1e9).ok()
}

/// Writes a duration in the largest unit that gives a whole number; what is finer than a millisecond is cut off.
pub(crate) fn render(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let whole = UNITS.iter().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
    let (name, unit) = whole.copied().unwrap_or(("ms", 1_000_000));
    format!("{}{name}", nanos / u128::from(unit))
}

/// Serializes a duration as it is written.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&render(*duration))
}
