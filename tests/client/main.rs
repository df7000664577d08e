//! The Rust client against a live gRPC server, with a network between them that breaks when it is told to.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

mod calls;
mod outages;
mod tls;
mod world;
