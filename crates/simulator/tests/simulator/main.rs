//! What the simulator promises, over real sockets and with a client that looks at raw bytes.

#![expect(clippy::unwrap_used, reason = "a test may panic, and its helpers too")]

mod billing;
mod faults;
mod ledger;
mod lifecycle;
mod limits;
mod raw_client;
mod strictness;
mod texts;
