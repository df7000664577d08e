//! Workers against a real Postgres and the simulator, in this process.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod board;
mod calls;
mod cancel;
mod configuration;
mod ending;
mod health;
mod identity;
mod incarnations;
mod many_calls;
mod outage;
mod pauses;
mod spool;
mod suspects;
mod world;
