//! The child's side: one call for a worker, and nothing else. No database, no telemetry, no configuration.
//!
//! It works on one thread, so that its beats stop when the handling of the call is stuck. A second thread only listens to
//! the parent: it cancels the call, and ends the process when the parent has gone, whatever the first one does.

use std::{
    io::{self, Read},
    panic::PanicHookInfo,
    process::ExitCode,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sluice_provider::{CallReport, CallRequest, Client, WireOutcome};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::interval,
};
use tokio_util::sync::CancellationToken;

use super::wire::{Frame, Order};
use crate::one_call;

/// Between two signs of life.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The address space of a child: many times the largest answer that is kept, and what threads reserve.
const MAX_ADDRESS_SPACE: u64 = 1 << 30;
/// There was no order, or the parent went away.
const EXIT_ABANDONED: i32 = 3;

/// Makes the one call that a worker orders over standard input, and reports over standard output. This is all that the
/// program of a [`crate::SuspectCommand`] does.
pub fn attempt_for_parent() -> ExitCode {
    limit_resources();
    std::panic::set_hook(Box::new(tell_panic));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = match runtime {
        Ok(runtime) => runtime.block_on(serve()),
        Err(error) => tell(&Frame::NotBegun(error.to_string())),
    };
    // Where telling failed, nobody is there to be told.
    told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// A limit that can't be set is no reason to refuse: the process is still one of its own.
fn limit_resources() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_AS) {
        let limit = MAX_ADDRESS_SPACE.min(hard);
        let _ = setrlimit(Resource::RLIMIT_AS, limit, limit);
    }
    // A core would hold the request and the credential.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// Tells where, and not what: the text of a panic may quote the bytes that led to it.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    if let Some(location) = panic.location() {
        let _ = tell(&Frame::PanickedAt(location.to_string()));
    }
}

fn tell(frame: &Frame) -> io::Result<()> {
    frame.write(&mut io::stdout().lock())
}

async fn serve() -> io::Result<()> {
    let call = match begin().await {
        Ok(call) => call,
        Err(error) => return tell(&Frame::NotBegun(error.to_string())),
    };
    let mut made = std::pin::pin!(one_call::make(&call.client, call.request, &call.cancel, None));
    let mut beats = interval(BEAT_INTERVAL);
    let report = loop {
        tokio::select! {
            report = &mut made => break report,
            _ = beats.tick() => tell(&Frame::Beat)?,
        }
    };
    tell_report(report)
}

/// A call that can be made.
struct Call {
    client: Client,
    request: CallRequest,
    cancel: CancellationToken,
    _ignored: [Signal; 3],
}

async fn begin() -> io::Result<Call> {
    let ignored = hear_and_ignore()?;
    let (sender, order) = oneshot::channel();
    let cancel = CancellationToken::new();
    let canceller = cancel.clone();
    std::thread::Builder::new().name("parent".to_owned()).spawn(move || listen(sender, &canceller))?;
    let order = order.await.map_err(io::Error::other)??;
    let (upstream, request) = order.into_call()?;
    let client = Client::new(upstream).map_err(io::Error::other)?;
    Ok(Call { client, request, cancel, _ignored: ignored })
}

fn tell_report(report: CallReport) -> io::Result<()> {
    let bytes = match &report.outcome {
        WireOutcome::Answered(answer) => Some((answer.body.clone(), answer.raw_stream.clone())),
        WireOutcome::NotSent { .. } | WireOutcome::Unknown(_) => None,
    };
    tell(&Frame::Report(Box::new(report)))?;
    if let Some((body, raw_stream)) = bytes {
        tell(&Frame::Body(body))?;
        if let Some(raw_stream) = raw_stream {
            tell(&Frame::RawStream(raw_stream))?;
        }
    }
    tell(&Frame::End)
}

/// Reads the order, then waits for a word or the end of the parent.
fn listen(sender: oneshot::Sender<io::Result<Order>>, cancel: &CancellationToken) {
    let mut parent = io::stdin().lock();
    let order = Order::read(&mut parent);
    if order.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        std::process::exit(EXIT_ABANDONED);
    }
    if sender.send(order).is_err() {
        return;
    }
    let mut word = [0];
    loop {
        match parent.read(&mut word) {
            Ok(1..) => cancel.cancel(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => std::process::exit(EXIT_ABANDONED),
        }
    }
}

/// Signals that a terminal or a service manager sends to every process of a service are the parent's to answer: it
/// drains, and waits for this call. Whoever listens to a signal is not ended by it.
fn hear_and_ignore() -> io::Result<[Signal; 3]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?])
}
