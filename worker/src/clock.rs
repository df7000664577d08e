//! The monotonic clock that a lease is measured with: it goes on while the machine is suspended, since the database
//! goes on too. tokio's and std's clocks stand still then, and are for everything else.

use std::time::Duration;

#[cfg(target_os = "linux")]
const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
/// There it goes on during sleep, which it does not on Linux.
#[cfg(target_vendor = "apple")]
const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;

/// Time since some fixed point, the machine's sleep included where the system tells it.
pub(crate) fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    if let Ok(time) = nix::time::clock_gettime(CLOCK) {
        return time.into();
    }
    since_start()
}

/// For systems without such a clock: since the first look in this process.
fn since_start() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
