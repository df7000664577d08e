//! Times as the contract writes them.

use chrono::{DateTime, Datelike, Utc};
use sluice_proto::{Duration, Timestamp};

use crate::InvalidInput;

/// A time of ours.
pub(super) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

/// A client's time as RFC 3339, for the checks that REST shares. `pointer`: the field.
pub(super) fn text_of(pointer: &str, given: Option<Timestamp>) -> Result<Option<String>, InvalidInput> {
    let Some(given) = given else { return Ok(None) };
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let time = nanos.and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
    match time.filter(|time| (1..=9999).contains(&time.year())) {
        Some(time) => Ok(Some(time.to_rfc3339())),
        None => Err(InvalidInput::value(
            pointer,
            "must be a time of the years 1 to 9999 with 0 to 999999999 nanoseconds",
        )),
    }
}

/// A client's duration.
pub(super) fn duration(pointer: &str, given: Duration) -> Result<std::time::Duration, InvalidInput> {
    given.try_into().map_err(|_| InvalidInput::value(pointer, "must be a duration that is not negative"))
}
