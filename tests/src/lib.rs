//! What the end-to-end and fault tests share: real processes, the checker of their histories, the fault lab, and mutants of
//! the SQL functions.
//!
//! Nothing of the product uses this crate.

pub mod facts;
pub mod history;
pub mod lab;
pub mod mutants;
pub mod processes;
pub mod rows;
pub mod table;
