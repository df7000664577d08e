//! Ctrl-C, SIGTERM, and the terminal that goes away.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::CliError;

/// Hears Ctrl-C, SIGTERM and SIGHUP from when it is made. While it is there, none ends the process by itself.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where the process was told to ignore it, as by `nohup`.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Starts to listen.
    pub fn listen() -> Result<Self, CliError> {
        let hear = |kind| {
            signal(kind)
                .map_err(|error| CliError::unreachable(format!("failed to listen for signals: {error}")))
        };
        let hangup = if ignores_hangup() { None } else { Some(hear(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = heard(self.hangup.as_mut()) => {}
        }
    }
}

async fn heard(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is to be left alone: whoever started the process had it ignored, which Linux tells in `/proc`
/// (proc(5), `SigIgn`), or nothing tells.
fn ignores_hangup() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}
