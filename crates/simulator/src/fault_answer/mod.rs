//! What each fault makes of an answer. Pure: a reply comes in as values and goes out as a script.
//!
//! Three heights: refusals instead of an answer (`refusal`), damage to the JSON's values (`values`), and damage to
//! the bytes and their timing (`bytes`, `bulk`).

mod bulk;
mod bytes;
mod refusal;
mod values;

use ::bytes::Bytes;
use chrono::{DateTime, Utc};

pub(crate) use refusal::refusal;

use crate::{
    fault::{Fault, FaultKind},
    ledger::Ended,
    script::{Opening, Reply, Timing, good_reply},
    shape::Good,
};

/// The reply to a call that was admitted and is struck by `fault`.
pub(crate) fn faulty_reply(mut good: Good, timing: &Timing, output_tokens: u64, fault: &Fault) -> Reply {
    values::damage(&mut good, fault.kind);
    let mut reply = good_reply(&good, timing, output_tokens);
    let is_stream = matches!(good, Good::Stream(_));
    match fault.kind {
        FaultKind::Hang => reply.opening = Opening::Hang,
        FaultKind::ResetBeforeAnswer => {
            let Opening::After(wait) = reply.opening else { return reply };
            reply.opening = Opening::ResetAfter(wait);
        }
        FaultKind::HangKeepalive => bytes::keepalive_forever(&mut reply, timing, is_stream),
        FaultKind::Drip => bytes::drip(&mut reply, &fault.params),
        FaultKind::Stall => bytes::stall(&mut reply, &fault.params),
        FaultKind::StallKeepalive => bytes::stall_keepalive(&mut reply, &fault.params, timing, is_stream),
        FaultKind::ResetMidStream => bytes::break_off(&mut reply, crate::script::Step::Reset),
        FaultKind::CloseMidStream => bytes::break_off(&mut reply, crate::script::Step::Close),
        FaultKind::CutJson => bytes::cut(&mut reply),
        FaultKind::GarbageAfterJson => {
            bytes::append(&mut reply, Bytes::from_static(b"}]<garbage>\n{\"id\":"));
        }
        FaultKind::BadUtf8 => bytes::insert_into_text(&mut reply, b"\xff\xfe\xc3("),
        FaultKind::RawNul => bytes::insert_into_text(&mut reply, b"\0"),
        FaultKind::BlankLines => bytes::blank_lines(&mut reply, is_stream),
        FaultKind::GzipBomb => bulk::gzip_bomb(&mut reply, &fault.params),
        FaultKind::Body10Mb => bulk::grow(&mut reply, &fault.params, bulk::TEN_MB),
        FaultKind::Body1Gb => bulk::grow(&mut reply, &fault.params, bulk::ONE_GB),
        FaultKind::Header1Mb => bulk::large_header(&mut reply, &fault.params),
        FaultKind::ErrorEvent => bytes::error_event(&mut reply, is_stream),
        FaultKind::Html => {
            reply = replaced(&reply, "text/html; charset=utf-8", refusal::HTML_PAGE.as_bytes());
        }
        FaultKind::EmptyBody => reply = replaced(&reply, "application/json", b""),
        _ => {}
    }
    reply
}

/// A reply of the same timing with another body.
fn replaced(reply: &Reply, content_type: &'static str, body: &'static [u8]) -> Reply {
    Reply { opening: reply.opening, ..Reply::immediate(200, content_type, body) }
}

/// Whether a fault refuses the call before it is looked at any further.
pub(crate) fn refused_at_once(fault: &Fault, now: DateTime<Utc>) -> Option<Reply> {
    let mut reply = refusal(fault, now)?;
    let wait = std::time::Duration::from_millis(fault.params.latency_ms.unwrap_or(0));
    reply.opening = Opening::After(wait);
    reply.ended = Ended::Error;
    Some(reply)
}
