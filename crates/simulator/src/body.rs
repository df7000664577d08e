//! Plays a reply's script as the body of an HTTP answer, and ends the call when it is over or dropped.

use std::{
    collections::VecDeque,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::Sleep;

use crate::{
    call_guard::CallGuard,
    ledger::Ended,
    script::{Play, Step, next_play},
    socket::ResetSwitch,
};

/// The connection is to be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the simulator breaks the connection on purpose")]
pub(crate) struct Broken;

/// The body of an answer.
pub(crate) struct ScriptBody {
    steps: VecDeque<Step>,
    length: Option<u64>,
    ended: Ended,
    sleep: Option<Pin<Box<Sleep>>>,
    /// `None` for answers that are no calls.
    guard: Option<CallGuard>,
    switch: ResetSwitch,
}

impl ScriptBody {
    /// A body that promises `length` bytes (`None`: chunks) and leaves its call as `ended` at its end.
    pub(crate) fn new(
        steps: VecDeque<Step>,
        length: Option<u64>,
        ended: Ended,
        guard: Option<CallGuard>,
        switch: ResetSwitch,
    ) -> Self {
        let mut body = Self { steps, length, ended, sleep: None, guard, switch };
        if body.length == Some(0) {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.finish(self.ended);
        }
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            match next_play(&mut self.steps) {
                Some(Play::Send(bytes, tokens)) => {
                    if let Some(guard) = &mut self.guard {
                        guard.bill(tokens);
                    }
                    if self.steps.is_empty() {
                        // The server asks for no more once it has the promised length, so this is the end.
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Play::Sleep(time)) => self.sleep = Some(Box::pin(tokio::time::sleep(time))),
                // No waker: only the end of the connection ends this.
                Some(Play::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
                Some(Play::Reset) => {
                    self.switch.flip();
                    return Poll::Ready(Some(Err(Broken)));
                }
                Some(Play::Close) => return Poll::Ready(Some(Err(Broken))),
                None => {
                    self.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.sleep.is_none()
    }
}
