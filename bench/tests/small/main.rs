//! The benchmarks' code in small, without a look at the clock: what they do must be right before it may be fast.

mod lease_and_settle;
mod submit;
