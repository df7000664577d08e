//! What a client of the OpenAI-compatible endpoints tells the queue: headers, since the body is the provider's.
//!
//! `Idempotency-Key`, and those that begin with `x-sluice-`. An unknown one of these is refused, since a typing error
//! would otherwise go unnoticed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_domain::{IdempotencyKey, MAX_MAX_ATTEMPTS, OnUnknown, Priority, QueueName, Tags};

use super::{InvalidInput, suggestion};

const KNOWN: [&str; 6] = [
    "x-sluice-queue",
    "x-sluice-priority",
    "x-sluice-max-attempts",
    "x-sluice-on-unknown",
    "x-sluice-deadline",
    "x-sluice-tag-NAME",
];
const PREFIX: &str = "x-sluice-";
const TAG_PREFIX: &str = "x-sluice-tag-";
/// How far ahead a deadline may lie, in days.
const MOST_DAYS_TO_DEADLINE: i64 = 366;

/// What is wanted of the queue.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct CallWishes {
    pub(crate) queue: QueueName,
    pub(crate) priority: Priority,
    pub(crate) idempotency_key: Option<IdempotencyKey>,
    pub(crate) deadline: Option<DateTime<Utc>>,
    pub(crate) max_attempts: Option<u16>,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) tags: Tags,
}

impl CallWishes {
    /// Reads the headers; `priority` is what counts where they say nothing. A deadline is counted from `now`.
    pub(crate) fn of(
        headers: &HeaderMap,
        priority: Priority,
        now: DateTime<Utc>,
    ) -> Result<Self, InvalidInput> {
        let mut wishes = Self { priority, ..Self::default() };
        let mut tags = BTreeMap::new();
        for (name, value) in headers {
            if name == "idempotency-key" {
                wishes.idempotency_key = Some(parsed(name, value, IdempotencyKey::new)?);
            } else if let Some(tag) = name.as_str().strip_prefix(TAG_PREFIX) {
                tags.insert(tag.to_owned(), text(name, value)?.to_owned());
            } else if name.as_str().starts_with(PREFIX) {
                wishes.take(name, value, now)?;
            }
        }
        wishes.tags = Tags::new(tags).map_err(|error| InvalidInput::value("x-sluice-tag", error))?;
        Ok(wishes)
    }

    fn take(
        &mut self,
        name: &HeaderName,
        value: &HeaderValue,
        now: DateTime<Utc>,
    ) -> Result<(), InvalidInput> {
        match name.as_str() {
            "x-sluice-queue" => self.queue = parsed(name, value, QueueName::new)?,
            "x-sluice-priority" => self.priority = parsed(name, value, |text| priority(&text))?,
            "x-sluice-max-attempts" => {
                self.max_attempts = Some(parsed(name, value, |text| max_attempts(&text))?);
            }
            "x-sluice-on-unknown" => self.on_unknown = parsed(name, value, |text| on_unknown(&text))?,
            "x-sluice-deadline" => self.deadline = Some(now + parsed(name, value, |text| time_left(&text))?),
            unknown => {
                let message = format!("unknown header {unknown:?}; {}", suggestion(unknown, &KNOWN));
                return Err(InvalidInput::at(unknown, "unknown_header", message));
            }
        }
        if self.queue.is_of_a_run() {
            let message = "queues whose names begin with \"run:\" belong to single runs; choose another name";
            return Err(InvalidInput::value(name.as_str(), message));
        }
        Ok(())
    }
}

fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, InvalidInput> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| InvalidInput::value(name.as_str(), "the header is not UTF-8"))
}

fn parsed<T, E: std::fmt::Display>(
    name: &HeaderName,
    value: &HeaderValue,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Result<T, InvalidInput> {
    parse(text(name, value)?.trim().to_owned()).map_err(|error| InvalidInput::value(name.as_str(), error))
}

fn priority(text: &str) -> Result<Priority, &'static str> {
    let number: Option<i64> = text.parse().ok();
    number.and_then(|number| Priority::new(number).ok()).ok_or("must be a whole number from 1 to 5")
}

fn max_attempts(text: &str) -> Result<u16, String> {
    let number: Option<u16> = text.parse().ok();
    number
        .filter(|number| (1..=MAX_MAX_ATTEMPTS).contains(number))
        .ok_or_else(|| format!("must be a whole number from 1 to {MAX_MAX_ATTEMPTS}"))
}

fn on_unknown(text: &str) -> Result<OnUnknown, String> {
    match text {
        "retry" => Ok(OnUnknown::Retry),
        "hold" => Ok(OnUnknown::Hold),
        other => Err(format!("{other:?} is no on_unknown; known are retry, hold")),
    }
}

fn time_left(text: &str) -> Result<TimeDelta, &'static str> {
    let seconds = text.parse().ok().map(std::time::Duration::from_secs);
    let duration = seconds.or_else(|| humantime::parse_duration(text).ok());
    let left = duration.and_then(|duration| TimeDelta::from_std(duration).ok());
    left.filter(|left| *left > TimeDelta::zero() && *left <= TimeDelta::days(MOST_DAYS_TO_DEADLINE))
        .ok_or("must be a duration such as 10m, of at most a year")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(headers: &[(&'static str, &str)]) -> Result<CallWishes, InvalidInput> {
        let pairs = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        CallWishes::of(&pairs.collect(), Priority::default(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn headers_say_how_a_call_is_queued() {
        let wishes = wishes(&[
            ("x-sluice-queue", "fast"),
            ("x-sluice-priority", " 5 "),
            ("x-sluice-deadline", "2m"),
            ("x-sluice-max-attempts", "7"),
            ("x-sluice-on-unknown", "hold"),
            ("x-sluice-tag-team", "Sücherei"),
            ("idempotency-key", "order-17"),
            ("x-stainless-retry-count", "1"),
        ])
        .unwrap();
        assert_eq!((wishes.queue.as_str(), wishes.priority.get()), ("fast", 5));
        assert_eq!(wishes.deadline, DateTime::from_timestamp(120, 0));
        assert_eq!((wishes.max_attempts, wishes.on_unknown), (Some(7), OnUnknown::Hold));
        assert_eq!(wishes.tags.pairs()["team"], "Sücherei");
        assert_eq!(wishes.idempotency_key.unwrap().as_str(), "order-17");
    }

    #[test]
    fn what_can_not_be_meant_is_refused_by_the_header_s_name() {
        for (name, value) in [
            ("x-sluice-priority", "9"),
            ("x-sluice-priority", "high"),
            ("x-sluice-queue", "a b"),
            ("x-sluice-queue", "run:1"),
            ("x-sluice-deadline", "soon"),
            ("x-sluice-deadline", "0"),
            ("x-sluice-max-attempts", "0"),
            ("x-sluice-on-unknown", "maybe"),
            ("idempotency-key", ""),
        ] {
            assert_eq!(wishes(&[(name, value)]).unwrap_err().pointer.as_deref(), Some(name), "{value}");
        }
        let typo = wishes(&[("x-sluice-prioritty", "1")]).unwrap_err();
        assert!(typo.message.contains("did you mean \"x-sluice-priority\"?"), "{typo}");
    }
}
