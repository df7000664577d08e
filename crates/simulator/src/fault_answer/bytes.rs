//! Damage to the bytes of an answer and to when they come.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde_json::json;

use crate::{
    fault::FaultParams,
    script::{BLANK_LINE, COMMENT, Reply, Step, Timing, event_bytes},
};

/// Given to the first half of an answer to reach the client before the connection breaks.
const FLUSH_TIME: Duration = Duration::from_millis(40);
const DEFAULT_DRIP_MS: u64 = 1_000;
/// Interval of keep-alives where the configuration has none.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(1);

fn keepalive_bytes(is_stream: bool) -> Bytes {
    if is_stream { COMMENT } else { BLANK_LINE }
}

/// Cuts the sent bytes in two halves; waits stay in the first.
fn halves(steps: VecDeque<Step>) -> (VecDeque<Step>, VecDeque<Step>) {
    let sends = |step: &&Step| matches!(step, Step::Send { .. });
    let count = steps.iter().filter(sends).count();
    if count == 1 {
        return halves_of_one(steps);
    }
    let (mut first, mut second, mut seen) = (VecDeque::new(), VecDeque::new(), 0);
    for step in steps {
        seen += usize::from(sends(&&step));
        if seen <= count / 2 { first.push_back(step) } else { second.push_back(step) }
    }
    (first, second)
}

/// Cuts the one piece that is sent; it is billed as a whole.
fn halves_of_one(steps: VecDeque<Step>) -> (VecDeque<Step>, VecDeque<Step>) {
    let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
    for step in steps {
        match step {
            Step::Send { mut bytes, tokens } => {
                let head = bytes.split_to(bytes.len() / 2);
                first.push_back(Step::Send { bytes: head, tokens });
                second.push_back(Step::send(bytes));
            }
            other => first.push_back(other),
        }
    }
    (first, second)
}

/// Puts `middle` between the halves.
fn put_between(reply: &mut Reply, middle: impl IntoIterator<Item = Step>) {
    let (mut first, mut second) = halves(std::mem::take(&mut reply.steps));
    first.extend(middle);
    first.append(&mut second);
    reply.steps = first;
}

fn stall_time(params: &FaultParams) -> Option<Duration> {
    params.duration_ms.map(Duration::from_millis)
}

pub(super) fn stall(reply: &mut Reply, params: &FaultParams) {
    put_between(reply, [stall_time(params).map_or(Step::Hang, Step::Wait)]);
}

pub(super) fn stall_keepalive(reply: &mut Reply, params: &FaultParams, timing: &Timing, is_stream: bool) {
    let interval = timing.keepalive.unwrap_or(DEFAULT_KEEPALIVE);
    let step = Step::KeepAlive { bytes: keepalive_bytes(is_stream), interval, total: stall_time(params) };
    reply.length = None;
    put_between(reply, [step]);
}

pub(super) fn keepalive_forever(reply: &mut Reply, timing: &Timing, is_stream: bool) {
    let interval = timing.keepalive.unwrap_or(DEFAULT_KEEPALIVE);
    reply.length = None;
    reply.steps = [Step::KeepAlive { bytes: keepalive_bytes(is_stream), interval, total: None }].into();
}

/// Half of the answer, and then `end`, with the whole promised.
pub(super) fn break_off(reply: &mut Reply, end: Step) {
    let (mut first, _) = halves(std::mem::take(&mut reply.steps));
    first.extend([Step::Wait(FLUSH_TIME), end]);
    reply.steps = first;
}

/// Half of the answer, and nothing that says so.
pub(super) fn cut(reply: &mut Reply) {
    let (mut first, second) = halves(std::mem::take(&mut reply.steps));
    // In a stream the cut goes through a chunk, not between two.
    if let Some(Step::Send { bytes, tokens }) =
        second.into_iter().find(|step| matches!(step, Step::Send { .. }))
        && reply.length.is_none()
    {
        let half = bytes.slice(..bytes.len() / 2);
        first.push_back(Step::Send { bytes: half, tokens });
    }
    reply.steps = first;
    reply.length = reply.length.and_then(|_| reply.measured_length());
}

pub(super) fn append(reply: &mut Reply, bytes: Bytes) {
    reply.steps.push_back(Step::send(bytes));
    reply.length = reply.length.and_then(|_| reply.measured_length());
}

pub(super) fn blank_lines(reply: &mut Reply, is_stream: bool) {
    let blank = keepalive_bytes(is_stream).repeat(5);
    reply.steps.push_front(Step::send(blank));
    reply.length = reply.length.and_then(|_| reply.measured_length());
}

/// Puts raw bytes into the first text that the answer holds, else before its last character.
pub(super) fn insert_into_text(reply: &mut Reply, raw: &[u8]) {
    for step in &mut reply.steps {
        let Step::Send { bytes, .. } = step else { continue };
        let at = text_start(bytes).unwrap_or_else(|| bytes.len().saturating_sub(1));
        *bytes = [&bytes[..at], raw, &bytes[at..]].concat().into();
        break;
    }
    reply.length = reply.length.and_then(|_| reply.measured_length());
}

/// Where the first text of an answer begins.
pub(super) fn text_start(bytes: &[u8]) -> Option<usize> {
    const STARTS: [&[u8]; 3] = [b"\"content\":\"", b"\"text\":\"", b"\"url\":\""];
    let find = |start: &[u8]| bytes.windows(start.len()).position(|w| w == start).map(|at| at + start.len());
    STARTS.iter().find_map(|start| find(start))
}

pub(super) fn drip(reply: &mut Reply, params: &FaultParams) {
    let interval = Duration::from_millis(params.interval_ms.unwrap_or(DEFAULT_DRIP_MS));
    for step in &mut reply.steps {
        if let Step::Send { bytes, tokens } = step {
            *step = Step::Drip { bytes: std::mem::take(bytes), tokens: *tokens, interval };
        }
    }
}

pub(super) fn error_event(reply: &mut Reply, is_stream: bool) {
    let error = json!({"error": {"message": "The server had an error while processing your request.",
        "type": "server_error", "param": null, "code": null}});
    if is_stream {
        let (mut first, _) = halves(std::mem::take(&mut reply.steps));
        first.push_back(Step::send(event_bytes(&error)));
        reply.steps = first;
    } else {
        reply.steps = [Step::send(error.to_string())].into();
        reply.length = reply.measured_length();
    }
}
