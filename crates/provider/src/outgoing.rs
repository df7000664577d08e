//! The body of a request, which tells how far it got.
//!
//! This is what *sent* is judged by. A connection asks for the body only when it is established and about to write
//! the request; until then no byte of the body can have left. (Over HTTP/2 the header may be out by then; a server
//! can't run a request whose announced body it has not got.) From the first piece on we can't know what arrived, so
//! the call counts as sent. Asking the error instead (`is_connect`) knows less: a pooled connection that turns out to
//! be closed is no connect error, though nothing was sent.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::watch, time::Instant};

/// Small enough that a peer which stops reading is seen, large enough not to cost anything.
const PIECE_BYTES: usize = 64 * 1024;

/// How far a request got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SendProgress {
    /// When the connection took the first piece.
    pub(crate) began_at: Option<Instant>,
    /// When it took the last one.
    pub(crate) finished_at: Option<Instant>,
}

/// A body that is given out in pieces. Its length is known, so that the request has a `content-length`.
pub(crate) struct OutgoingBody {
    rest: Bytes,
    progress: watch::Sender<SendProgress>,
}

impl OutgoingBody {
    /// A body and what tells of its progress. An empty body would never be asked for: a JSON object has two bytes.
    pub(crate) fn new(bytes: Bytes) -> (Self, watch::Receiver<SendProgress>) {
        let (progress, receiver) = watch::channel(SendProgress::default());
        (Self { rest: bytes, progress }, receiver)
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece_bytes = PIECE_BYTES.min(self.rest.len());
        let piece = self.rest.split_to(piece_bytes);
        let is_last = self.rest.is_empty();
        self.progress.send_modify(|progress| {
            let now = Instant::now();
            progress.began_at.get_or_insert(now);
            progress.finished_at = is_last.then_some(now);
        });
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
