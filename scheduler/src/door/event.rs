//! Single events of a stream: their ids, what is in them, how they are written.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use sluice_domain::JobId;

use crate::server::ApiError;

/// Which event a client has read last. Its text is the event's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LastEvent {
    pub(super) job: JobId,
    pub(super) lease_no: u32,
    pub(super) event_no: u32,
}

impl fmt::Display for LastEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.job, self.lease_no, self.event_no)
    }
}

/// The text is no id of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoEventId;

impl FromStr for LastEvent {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(NoEventId);
        let (job, lease_no, event_no) = (part()?, part()?, part()?);
        // Numbers of the database, where they are signed.
        let number = |text: &str| text.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
        let last = Self {
            job: job.parse().map_err(|_| NoEventId)?,
            lease_no: number(lease_no).ok_or(NoEventId)?,
            event_no: number(event_no).ok_or(NoEventId)?,
        };
        if parts.next().is_some() { Err(NoEventId) } else { Ok(last) }
    }
}

/// What is to be known of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four facts about a chunk that vary freely")]
pub(super) struct Chunk {
    /// It is `[DONE]`.
    pub(super) is_done: bool,
    /// It is `[DONE]`, or says why the answer ended.
    pub(super) is_last: bool,
    /// It is an error.
    pub(super) is_error: bool,
    /// It has usage and no choices.
    pub(super) is_only_usage: bool,
}

#[derive(Deserialize)]
struct Members {
    choices: Option<Vec<Choice>>,
    usage: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<IgnoredAny>,
}

impl Chunk {
    pub(super) fn of(data: &[u8]) -> Self {
        if data.trim_ascii() == b"[DONE]" {
            return Self { is_done: true, is_last: true, ..Self::default() };
        }
        let Ok(members) = serde_json::from_slice::<Members>(data) else { return Self::default() };
        let choices = members.choices.unwrap_or_default();
        Self {
            is_done: false,
            is_last: choices.iter().any(|choice| choice.finish_reason.is_some()),
            is_error: members.error.is_some(),
            is_only_usage: choices.is_empty() && members.usage.is_some(),
        }
    }
}

/// An event with its id. Lines of the data become lines of the event.
pub(super) fn numbered(id: &LastEvent, data: &[u8]) -> Bytes {
    let mut event = format!("id: {id}\n").into_bytes();
    for line in data.split(|byte| *byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.push(b'\n');
    }
    event.push(b'\n');
    event.into()
}

/// An error within a stream, as OpenAI's servers send it.
pub(super) fn error_event(error: &ApiError) -> Bytes {
    // The body is made of strings.
    let body = serde_json::to_string(&error.body()).expect("an error is serialisable");
    Bytes::from(format!("data: {body}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_events_are_read_as_they_are_written() {
        let id = LastEvent { job: JobId::generate(), lease_no: 2, event_no: 17 };
        assert_eq!(id.to_string().parse(), Ok(id));
        let job = id.job;
        for other in ["", "x", "x/1/1", &format!("{job}/1"), &format!("{job}/1/-1"), &format!("{job}/1/1/1")]
        {
            assert_eq!(other.parse::<LastEvent>(), Err(NoEventId), "{other}");
        }
    }

    #[test]
    fn chunks_are_told_apart() {
        let of = |text: &str| Chunk::of(text.as_bytes());
        assert!(of(" [DONE]").is_done);
        assert_eq!(of(r#"{"choices":[{"delta":{}, "finish_reason":null}],"usage":null}"#), Chunk::default());
        assert!(of(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#).is_last);
        assert!(of(r#"{"choices":[],"usage":{"total_tokens":1}}"#).is_only_usage);
        assert!(of(r#"{"error":{"message":"no"}}"#).is_error);
        assert_eq!(of("half a chu"), Chunk::default());
    }

    #[test]
    fn lines_of_data_stay_one_event() {
        let id = LastEvent { job: JobId::from_uuid(uuid::Uuid::nil()), lease_no: 1, event_no: 0 };
        let expected = format!("id: {}/1/0\ndata: a\ndata: b\n\n", id.job);
        assert_eq!(numbered(&id, b"a\nb"), expected.as_bytes());
    }
}
