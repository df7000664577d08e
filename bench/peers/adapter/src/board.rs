//! Where the handlers report. Peers build their handlers in ways too different to hand them a value, so it is global.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

static HANDLED: AtomicU64 = AtomicU64::new(0);
static WATCHED: AtomicBool = AtomicBool::new(false);
static STARTED: Mutex<Option<Instant>> = Mutex::new(None);
static SIGNAL: Notify = Notify::const_new();

/// To be called by each handler, first thing. One addition, unless starts are being watched.
pub fn handled() {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    if WATCHED.load(Ordering::Relaxed) {
        *STARTED.lock().expect("nothing panics with it held") = Some(Instant::now());
        SIGNAL.notify_one();
    }
}

pub(crate) fn handled_count() -> u64 {
    HANDLED.load(Ordering::Relaxed)
}

pub(crate) fn watch_starts() {
    WATCHED.store(true, Ordering::Relaxed);
}

/// When the one job that is under way started; waits for it.
pub(crate) async fn next_start() -> Instant {
    loop {
        SIGNAL.notified().await;
        if let Some(instant) = STARTED.lock().expect("nothing panics with it held").take() {
            return instant;
        }
    }
}
