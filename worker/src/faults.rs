//! Faults on order, for tests, in programs that were built with the feature `failpoints`. The variable `FAILPOINTS`
//! switches them on.
//!
//! `attempt-poison=return`: a request that holds `[[poison:WORD]]` does to the process that makes its call what a fault of
//! ours would, when the answer has come and was paid for. WORD is `panic`, `abort`, `overflow`, `endless` or `memory`; `nap`
//! only blocks its thread for a while.
//!
//! `stuck-after=return(MS)`: so long may an attempt show no sign of life.
//!
//! `spool-disk=pause`: the disk under the spool hangs.

use std::{hint::black_box, time::Duration};

use fail::fail_point;

const START: &[u8] = b"[[poison:";
/// What is reserved at once, and in all before it is enough: then the system would have ended the process.
const STEP_BYTES: usize = 64 << 20;
/// How long a nap takes.
const NAP: Duration = Duration::from_secs(6);
const ENOUGH_BYTES: usize = 8 << 30;

/// Strikes, where the request asks for it.
pub(crate) fn strike(request: &[u8]) {
    fail_point!("attempt-poison", |_| act(request));
}

/// How long an attempt may show no sign of life, where that is ordered.
pub(crate) fn stuck_after() -> Option<Duration> {
    fail_point!("stuck-after", |ms| ms?.parse().ok().map(Duration::from_millis));
    None
}

/// Hangs, where that is ordered of the disk.
pub(crate) fn touch_disk() {
    fail_point!("spool-disk");
}

fn act(request: &[u8]) {
    let Some(at) = request.windows(START.len()).position(|bytes| bytes == START) else { return };
    let word = &request[at + START.len()..];
    let word = word.split(|byte| *byte == b']').next().unwrap_or_default();
    match word {
        b"panic" => panic!("a poison that was ordered"),
        b"abort" => std::process::abort(),
        b"overflow" => {
            let _ = black_box(descend(black_box(0)));
        }
        b"endless" => loop {
            std::thread::sleep(Duration::from_millis(1));
        },
        b"memory" => hoard(),
        b"nap" => std::thread::sleep(NAP),
        _ => {}
    }
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn descend(depth: u64) -> u64 {
    let ballast = black_box([depth; 512]);
    ballast[0] + descend(depth + 1) + ballast[511]
}

/// Reserves memory until there is none; nothing of it is touched, so that it costs the machine nothing.
fn hoard() {
    let mut hoard = Vec::new();
    while hoard.len() * STEP_BYTES < ENOUGH_BYTES {
        hoard.push(black_box(Vec::<u8>::with_capacity(STEP_BYTES)));
    }
    std::process::abort();
}
