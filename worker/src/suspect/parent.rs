//! The parent's side: starts a child, gives it the order, listens until it has told its report or has ended, and says
//! which it was.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures::StreamExt;
use nix::sys::signal::Signal;
use sluice_domain::{ErrorClass, UpstreamUse};
use sluice_provider::{CallReport, CallRequest, NotSentReason, Waited, WireOutcome};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, ChildStdout, Command},
    select,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};

use super::{
    Room,
    wire::{CANCEL, Frame, FrameDecoder, Order, OrderHead, ToldCredential},
};
use crate::routing::Target;

/// How long a call that was cancelled may take to say how far it got.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Looks within the time after which a child counts as stuck.
const LOOKS: u32 = 8;
/// How long a child that has closed its output may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// What came of a call in a child.
pub(crate) enum InChild {
    /// It told its report.
    Report(Box<CallReport>),
    /// It ended before that.
    Crashed(Box<Crash>),
    /// The system has no process for it now: nothing was sent, and it is nobody's fault.
    NotStarted(io::Error),
}

/// A child that ended before it had told its report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Crash {
    /// The call that it was to make, and may have made.
    pub(crate) call: UpstreamUse,
    /// What ended it, in words that are fit for clients.
    pub(crate) how: String,
    /// Where in the program it panicked, if it did; for the log.
    pub(crate) panicked_at: Option<String>,
}

/// How listening ended.
enum Heard {
    Report(Box<CallReport>),
    NotBegun(String),
    /// The child closed its output, or told what nobody understands.
    Silence,
    /// No sign of life, or too late: it was killed for that.
    Stuck(&'static str),
    /// It was cancelled and had no last word.
    Cancelled,
}

impl Room<'_> {
    /// Makes the call in a child. Cancelling lets go of it, as it does in this process.
    pub(crate) async fn call(
        self,
        target: &Target,
        request: CallRequest,
        cancel: &CancellationToken,
    ) -> InChild {
        let call = UpstreamUse {
            call_id: request.call_id,
            upstream: target.upstream.name.clone(),
            model: request.model.as_str().to_owned(),
            answered_model: None,
            request_id: None,
        };
        let report = |outcome| CallReport {
            outcome,
            upstream: call.clone(),
            sent_at: None,
            duration: None,
            time_to_first_byte: None,
            is_token_outdated: false,
        };
        let not_begun = |detail| report(WireOutcome::NotSent { reason: NotSentReason::NotBegun, detail });
        let not_sent = |reason, detail| {
            let outcome = WireOutcome::NotSent { reason, detail };
            InChild::Report(Box::new(report(outcome)))
        };
        let may_begin = request.may_begin.clone();
        let ordering = select! {
            biased;
            () = cancel.cancelled() => return not_sent(NotSentReason::Cancelled, String::new()),
            order = order(target, request) => order,
        };
        let order = match ordering {
            Ok(order) => order,
            Err(detail) => return not_sent(NotSentReason::NoCredential, detail),
        };
        if !may_begin.now(Waited::Authorized) {
            return InChild::Report(Box::new(not_begun("what it waited for took too long".to_owned())));
        }
        let limits = Limits::of(&order, self.stuck_after);
        let mut child = match self.start() {
            Ok(child) => child,
            Err(error) => return InChild::NotStarted(error),
        };
        let mut listener = Listener { cancel, limits, panicked_at: None };
        let heard = listener.attend(&mut child, order).await;
        let panicked_at = listener.panicked_at;
        let told = |report| InChild::Report(Box::new(report));
        match heard {
            Heard::Report(report) => {
                tokio::spawn(async move { timeout(LAST_BREATH, child.wait()).await });
                InChild::Report(report)
            }
            Heard::NotBegun(reason) => told(not_begun(reason)),
            Heard::Cancelled => told(report(WireOutcome::Unknown(ErrorClass::Cancelled))),
            Heard::Stuck(how) => {
                kill(&mut child).await;
                InChild::Crashed(Box::new(Crash { call, how: how.to_owned(), panicked_at }))
            }
            Heard::Silence => match end(&mut child).await {
                Some(how) => InChild::Crashed(Box::new(Crash { call, how, panicked_at })),
                None => told(report(WireOutcome::Unknown(ErrorClass::ConnectionLost))),
            },
        }
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.command.program)
            .args(&self.command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The text of a panic may quote the bytes that led to it.
            .stderr(Stdio::null())
            // Ctrl-C is for the parent, which waits for calls under way.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// The order for a child. The error says why the call can't be authorised.
async fn order(target: &Target, request: CallRequest) -> Result<Order, String> {
    let upstream = target.upstream.client.upstream();
    let credential = ToldCredential::of(target.upstream.client.credential_to_tell().await?)
        .ok_or_else(|| "there is no token".to_owned())?;
    let CallRequest { call_id, path, model, body, traceparent, usual_duration, may_begin: _ } = request;
    let head = OrderHead {
        upstream: upstream.name.clone(),
        provider: upstream.dialect.as_str().to_owned(),
        base_url: upstream.base_url.clone(),
        credential,
        timeouts: upstream.timeouts,
        max_answer_bytes: upstream.max_answer_bytes,
        is_streamed_if_worth_it: upstream.is_streamed_if_worth_it,
        usual_duration,
        call_id,
        path,
        model,
        traceparent,
    };
    Ok(Order { head, body })
}

/// What a child may take.
struct Limits {
    stuck_after: Duration,
    total: Duration,
    max_answer_bytes: usize,
}

impl Limits {
    fn of(order: &Order, stuck_after: Duration) -> Self {
        let total = order.head.timeouts.total.saturating_add(stuck_after);
        Self { stuck_after, total, max_answer_bytes: order.head.max_answer_bytes }
    }
}

/// Listens to one child.
struct Listener<'a> {
    cancel: &'a CancellationToken,
    limits: Limits,
    panicked_at: Option<String>,
}

impl Listener<'_> {
    async fn attend(&mut self, child: &mut Child, order: Order) -> Heard {
        let (Some(mut parent_end), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Heard::NotBegun("it has no standard input or output".to_owned());
        };
        // A child that doesn't take its order has ended, or is stuck; its output tells which.
        let _ = timeout(self.limits.stuck_after, give(&mut parent_end, order)).await;
        self.listen(output, parent_end).await
    }

    /// Listens to the end. The parent's end of the child's input is held until then: its closing ends the child.
    async fn listen(&mut self, output: ChildStdout, mut parent_end: ChildStdin) -> Heard {
        let decoder = FrameDecoder { max_answer_bytes: self.limits.max_answer_bytes };
        let mut frames = FramedRead::new(output, decoder);
        let mut report: Option<Box<CallReport>> = None;
        // Time is counted in looks, as many as there really were: while this process and the child stand still together
        // (a frozen container, say), no time passes that the child could have used.
        let look = (self.limits.stuck_after / LOOKS).max(Duration::from_millis(1));
        let mut looks = interval_at(Instant::now() + look, look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut silent, mut left) = (0, self.limits.total);
        let mut is_cancelled = false;
        loop {
            tokio::select! {
                // What was told counts before the clocks: this process may have stood still for long.
                biased;
                frame = frames.next() => {
                    silent = 0;
                    match frame {
                        Some(Ok(Frame::Beat)) => {}
                        Some(Ok(Frame::PanickedAt(place))) => self.panicked_at = Some(place),
                        Some(Ok(Frame::NotBegun(reason))) => return Heard::NotBegun(reason),
                        Some(Ok(Frame::Report(told))) => report = Some(told),
                        Some(Ok(Frame::Body(bytes))) => keep(&mut report, |answer| answer.body = bytes),
                        Some(Ok(Frame::RawStream(bytes))) => {
                            keep(&mut report, |answer| answer.raw_stream = Some(bytes));
                        }
                        Some(Ok(Frame::End)) => return report.map_or(Heard::Silence, Heard::Report),
                        Some(Err(_)) => return Heard::Stuck("it told what is no report"),
                        None => return Heard::Silence,
                    }
                }
                () = self.cancel.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    left = left.min(LAST_WORD);
                    looks.reset_after(look.min(LAST_WORD));
                    // A child that has gone says so by its output; one that takes no word gets none.
                    let _ = timeout(LAST_WORD, parent_end.write_all(&[CANCEL])).await;
                }
                _ = looks.tick() => {
                    silent += 1;
                    left = left.saturating_sub(look);
                    match (is_cancelled, left.is_zero(), silent >= LOOKS) {
                        (true, true, _) | (true, _, true) => return Heard::Cancelled,
                        (false, true, _) => return Heard::Stuck("it did not end with the time for the call"),
                        (false, false, true) => return Heard::Stuck("it showed no sign of life"),
                        (_, false, false) => {}
                    }
                }
            }
        }
    }
}

async fn give(parent_end: &mut ChildStdin, order: Order) -> io::Result<()> {
    parent_end.write_all(&order.prefix()?).await?;
    parent_end.write_all(&order.body).await?;
    parent_end.flush().await
}

fn keep(report: &mut Option<Box<CallReport>>, put: impl FnOnce(&mut sluice_provider::Answer)) {
    if let Some(WireOutcome::Answered(answer)) = report.as_mut().map(|report| &mut report.outcome) {
        put(answer);
    }
}

/// What ended a child that closed its output: `None` where somebody asked it to end.
async fn end(child: &mut Child) -> Option<String> {
    if let Ok(Ok(status)) = timeout(LAST_BREATH, child.wait()).await {
        return ended_by(status);
    }
    kill(child).await;
    Some("it closed its output and did not end".to_owned())
}

/// Dropping it kills it, too; but then nobody would wait until it is gone.
async fn kill(child: &mut Child) {
    let _ = timeout(LAST_BREATH, child.kill()).await;
}

fn ended_by(status: ExitStatus) -> Option<String> {
    let signal = status.signal().map(|number| (number, Signal::try_from(number).ok()));
    match (signal, status.code()) {
        // SIGKILL is the system's or a person's: what is bounded in the child itself (memory) ends it by SIGABRT.
        (Some((_, Some(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGKILL))), _) => None,
        (Some((_, Some(signal))), _) => Some(format!("it was ended by {signal}")),
        (Some((number, None)), _) => Some(format!("it was ended by signal {number}")),
        (None, Some(code)) => Some(format!("it ended with code {code} before it had reported")),
        (None, None) => Some("it ended before it had reported".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_asked_to_end_did_not_crash() {
        for asked in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGKILL] {
            assert_eq!(ended_by(ExitStatus::from_raw(asked as i32)), None);
        }
        let how = |raw| ended_by(ExitStatus::from_raw(raw)).unwrap();
        assert_eq!(how(Signal::SIGABRT as i32), "it was ended by SIGABRT");
        assert_eq!(how(101 << 8), "it ended with code 101 before it had reported");
    }
}
