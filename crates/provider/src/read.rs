//! Reads the body of an answer against the clocks.

use std::time::Duration;

use sluice_domain::ErrorClass;
use tokio::{
    select,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Timeouts,
    intake::{Intake, Piece},
    wire_error::lost_class,
};

/// How long the end of the bytes is waited for after the end of the answer, so that the connection can be used again.
const LINGER: Duration = Duration::from_millis(500);

/// How reading ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadEnd {
    /// All of it was read, or as much as is kept.
    Read,
    /// It broke off, for this reason.
    Broken(ErrorClass),
}

/// What reading is bounded by.
pub(crate) struct ReadBounds<'a> {
    /// The clocks.
    pub(crate) timeouts: &'a Timeouts,
    /// When the connection took the last piece of the request.
    pub(crate) sent: Instant,
    /// When the whole call must be over.
    pub(crate) must_end: Instant,
    /// Cancels the call.
    pub(crate) cancel: &'a CancellationToken,
}

/// Reads the body of `response` into `intake`. Gives the moment of the first piece that was more than a sign of
/// life, too.
pub(crate) async fn read_body(
    response: &mut reqwest::Response,
    intake: &mut Intake,
    bounds: &ReadBounds<'_>,
) -> (ReadEnd, Option<Instant>) {
    let Timeouts { first_byte, first_token, between_tokens, .. } = *bounds.timeouts;
    let mut first_content = None;
    // An error says all in its status line: nothing computes behind it that would be worth the long clock.
    let mut progress_until = if response.status().is_success() {
        bounds.sent + first_token
    } else {
        Instant::now() + between_tokens
    };
    let mut life_until = Instant::now() + first_byte;
    loop {
        let silent_until =
            if first_content.is_none() { progress_until.min(life_until) } else { progress_until };
        let deadline = silent_until.min(bounds.must_end);
        let piece = select! {
            biased;
            () = bounds.cancel.cancelled() => return (ReadEnd::Broken(ErrorClass::Cancelled), first_content),
            chunk = response.chunk() => match chunk {
                Ok(Some(bytes)) => intake.take(&bytes),
                Ok(None) => return (ReadEnd::Read, first_content),
                Err(error) => return (ReadEnd::Broken(lost_class(&error)), first_content),
            },
            () = sleep_until(deadline) => {
                let is_total = bounds.must_end <= silent_until;
                let class = if is_total { ErrorClass::CallTimeout } else { ErrorClass::Stalled };
                return (ReadEnd::Broken(class), first_content);
            }
        };
        let now = Instant::now();
        match piece {
            Piece::KeepAlive => life_until = now + first_byte,
            Piece::Content => {
                first_content.get_or_insert(now);
                progress_until = now + between_tokens;
            }
            Piece::TooMuch => return (ReadEnd::Read, first_content),
            Piece::Last => {
                drain(response).await;
                return (ReadEnd::Read, first_content.or(Some(now)));
            }
        }
    }
}

async fn drain(response: &mut reqwest::Response) {
    let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
    // Whatever comes or doesn't come after the end changes nothing.
    let _ = tokio::time::timeout(LINGER, rest).await;
}
