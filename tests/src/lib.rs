//! What the end-to-end and fault tests share: real processes, and the checker of their histories.
//!
//! Nothing of the product uses this crate.

pub mod facts;
pub mod history;
pub mod processes;
