//! Workers against a real Postgres and the simulator, in this process.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod adaptive;
mod board;
mod calls;
mod cancel;
mod configuration;
mod cooldowns;
mod credentials;
mod ending;
mod failover;
mod health;
mod identity;
mod incarnations;
mod limits;
mod many_calls;
mod outage;
mod pauses;
mod spool;
mod streams;
mod suspects;
mod world;
