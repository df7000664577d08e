//! The monotonic clock that a lease is measured with: it goes on while the machine is suspended, since the database
//! goes on too. tokio's and std's clocks stand still then, and are for everything else.

use std::time::Duration;

/// Time since some fixed point, the machine's sleep included where the system tells it.
pub(crate) fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    if let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        return time.into();
    }
    since_start()
}

/// For systems without such a clock: since the first look in this process.
fn since_start() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
