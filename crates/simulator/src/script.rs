//! An answer as a script of steps: what is sent, what is waited for, where it breaks off. Pure data, so that faults
//! are changes to a list; `body` plays it.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::{
    ledger::Ended,
    shape::{Event, Good},
};

/// A comment that keeps a stream open while it waits.
pub(crate) const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// What keeps a plain answer open while it waits.
pub(crate) const BLANK_LINE: Bytes = Bytes::from_static(b"\n");
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// One step of an answer's body.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Step {
    /// Sends bytes; `tokens` of the answer are billed from then on.
    Send { bytes: Bytes, tokens: u64 },
    /// Sends nothing for a while.
    Wait(Duration),
    /// Sends `bytes` at each `interval` until `total` is over (`None`: for ever).
    KeepAlive { bytes: Bytes, interval: Duration, total: Option<Duration> },
    /// Sends one byte at each `interval`; `tokens` are billed with the last.
    Drip { bytes: Bytes, tokens: u64, interval: Duration },
    /// Sends `chunk` so many times.
    Repeat { chunk: Bytes, count: u64 },
    /// Never goes on.
    Hang,
    /// Breaks the connection with a TCP reset.
    Reset,
    /// Closes the connection although the answer is not complete.
    Close,
}

impl Step {
    pub(crate) fn send(bytes: impl Into<Bytes>) -> Self {
        Self::Send { bytes: bytes.into(), tokens: 0 }
    }

    /// How many bytes it sends, where that can be said.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Send { bytes, .. } | Self::Drip { bytes, .. } => Some(bytes.len() as u64),
            Self::Repeat { chunk, count } => Some(chunk.len() as u64 * count),
            Self::Wait(_) => Some(0),
            Self::KeepAlive { .. } | Self::Hang | Self::Reset | Self::Close => None,
        }
    }
}

/// What a player does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Play {
    /// Hands out bytes that carry so many tokens.
    Send(Bytes, u64),
    /// Sleeps.
    Sleep(Duration),
    /// Sleeps for ever.
    Hang,
    /// Breaks the connection with a TCP reset.
    Reset,
    /// Closes the connection.
    Close,
}

/// Takes the next thing to do off a script; `None` when it is over.
pub(crate) fn next_play(steps: &mut VecDeque<Step>) -> Option<Play> {
    loop {
        match steps.pop_front()? {
            Step::Send { bytes, .. } if bytes.is_empty() => {}
            Step::Send { bytes, tokens } => return Some(Play::Send(bytes, tokens)),
            Step::Wait(time) => return Some(Play::Sleep(time)),
            Step::Hang => return Some(Play::Hang),
            Step::Reset => return Some(Play::Reset),
            Step::Close => return Some(Play::Close),
            Step::KeepAlive { interval, total: Some(left), .. } if left <= interval => {
                return Some(Play::Sleep(left));
            }
            Step::KeepAlive { bytes, interval, total } => {
                let total = total.map(|left| left.saturating_sub(interval));
                steps.push_front(Step::KeepAlive { bytes: bytes.clone(), interval, total });
                steps.push_front(Step::send(bytes));
                return Some(Play::Sleep(interval));
            }
            Step::Drip { mut bytes, tokens, interval } if bytes.len() > 1 => {
                let first = bytes.split_to(1);
                steps.push_front(Step::Drip { bytes, tokens, interval });
                steps.push_front(Step::Wait(interval));
                return Some(Play::Send(first, 0));
            }
            Step::Drip { bytes, tokens, .. } => steps.push_front(Step::Send { bytes, tokens }),
            Step::Repeat { count: 0, .. } => {}
            Step::Repeat { chunk, count } => {
                steps.push_front(Step::Repeat { chunk: chunk.clone(), count: count - 1 });
                return Some(Play::Send(chunk, 0));
            }
        }
    }
}

/// What happens before the head of the answer is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// The head is sent after this time.
    After(Duration),
    /// The connection is reset after this time; the whole answer is billed.
    ResetAfter(Duration),
    /// Nothing is ever sent.
    Hang,
}

/// An answer, ready to be played.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reply {
    pub(crate) opening: Opening,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) steps: VecDeque<Step>,
    /// What is promised as `Content-Length`; `None`: chunks.
    pub(crate) length: Option<u64>,
    /// How the call has ended when the last step is done.
    pub(crate) ended: Ended,
}

impl Reply {
    /// A reply whose body is there at once.
    pub(crate) fn immediate(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            opening: Opening::After(Duration::ZERO),
            status,
            headers: vec![(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type))],
            length: Some(body.len() as u64),
            steps: VecDeque::from([Step::send(body)]),
            ended: if status < 400 { Ended::Answered } else { Ended::Error },
        }
    }

    /// The length of the whole body, where it can be said before.
    pub(crate) fn measured_length(&self) -> Option<u64> {
        self.steps.iter().map(Step::length).sum()
    }
}

/// How long an answer takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timing {
    pub(crate) first_token: Duration,
    pub(crate) per_token: Duration,
    /// Interval of keep-alives; `None`: none are sent.
    pub(crate) keepalive: Option<Duration>,
}

impl Timing {
    /// How the wait for the first token begins: silently, or with keep-alives when it is long.
    fn opening(&self, wait: Duration, keepalive: Bytes) -> (Opening, Option<Step>) {
        match self.keepalive {
            Some(interval) if wait > interval => {
                let step = Step::KeepAlive { bytes: keepalive, interval, total: Some(wait) };
                (Opening::After(Duration::ZERO), Some(step))
            }
            _ => (Opening::After(wait), None),
        }
    }
}

/// The script of a good answer. `output_tokens` are billed when a plain answer is sent.
pub(crate) fn good_reply(good: &Good, timing: &Timing, output_tokens: u64) -> Reply {
    match good {
        Good::Plain(json) => plain_reply(json, timing, output_tokens),
        Good::Stream(events) => stream_reply(events, timing),
    }
}

fn plain_reply(json: &Value, timing: &Timing, output_tokens: u64) -> Reply {
    let bytes = Bytes::from(json.to_string());
    let tokens = u32::try_from(output_tokens).unwrap_or(u32::MAX);
    let wait = timing.first_token + timing.per_token.saturating_mul(tokens);
    let (opening, keepalive) = timing.opening(wait, BLANK_LINE);
    let mut reply = Reply::immediate(200, "application/json", Bytes::new());
    reply.opening = opening;
    reply.steps = keepalive.into_iter().chain([Step::Send { bytes, tokens: output_tokens }]).collect();
    reply.length = reply.measured_length();
    reply
}

fn stream_reply(events: &[Event], timing: &Timing) -> Reply {
    let (opening, keepalive) = timing.opening(timing.first_token, COMMENT);
    let mut steps: VecDeque<Step> = keepalive.into_iter().collect();
    for event in events {
        let wait = timing.per_token.saturating_mul(u32::try_from(event.tokens).unwrap_or(u32::MAX));
        if !wait.is_zero() {
            steps.push_back(Step::Wait(wait));
        }
        steps.push_back(Step::Send { bytes: event_bytes(&event.json), tokens: event.tokens });
    }
    steps.push_back(Step::send(DONE));
    let mut reply = Reply::immediate(200, "text/event-stream; charset=utf-8", Bytes::new());
    reply.opening = opening;
    reply.steps = steps;
    reply.length = None;
    reply
}

/// A chunk as it stands in a stream.
pub(crate) fn event_bytes(json: &Value) -> Bytes {
    format!("data: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(steps: impl IntoIterator<Item = Step>) -> Vec<Play> {
        let mut steps: VecDeque<Step> = steps.into_iter().collect();
        std::iter::from_fn(|| next_play(&mut steps)).collect()
    }

    #[test]
    fn a_drip_sends_bytes_one_by_one_and_bills_with_the_last() {
        let interval = Duration::from_millis(5);
        let plays = played([Step::Drip { bytes: "ab".into(), tokens: 3, interval }]);
        assert_eq!(plays, [Play::Send("a".into(), 0), Play::Sleep(interval), Play::Send("b".into(), 3)]);
    }

    #[test]
    fn keep_alives_stop_when_the_wait_is_over() {
        let interval = Duration::from_millis(10);
        let total = Some(Duration::from_millis(25));
        let plays = played([Step::KeepAlive { bytes: "\n".into(), interval, total }]);
        let blank = || Play::Send("\n".into(), 0);
        let rest = Play::Sleep(Duration::from_millis(5));
        assert_eq!(plays, [Play::Sleep(interval), blank(), Play::Sleep(interval), blank(), rest]);
    }

    #[test]
    fn nothing_is_said_of_the_length_of_what_never_ends() {
        let mut reply = Reply::immediate(200, "text/plain", "abc");
        assert_eq!(reply.measured_length(), Some(3));
        reply.steps.push_back(Step::Hang);
        assert_eq!(reply.measured_length(), None);
    }
}
