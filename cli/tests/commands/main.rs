//! The operator's commands as their users meet them: the real binary, a real database, the simulator as a server of its
//! own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod configuration;
mod doctor;
mod keys;
mod life;
mod program;
mod suspects;
mod usage;
