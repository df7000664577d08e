//! Whole processes over real sockets: the binary as users run it, a real Postgres, the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod canaries;
mod depths_sent;
mod hung_disk;
mod many_workers;
mod one_trace;
mod remote;
mod shared_run;
mod site;
mod slow_attempt;
