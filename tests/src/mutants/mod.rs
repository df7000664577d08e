//! Mutants of the SQL functions: each guard taken out or turned, one at a time, to see whether a test notices.
//!
//! `edit` finds what can be changed in a function's text; `trial` plants one change into the database that test databases
//! are copies of, runs tests, and takes it back. `tests/mutants` runs it all. A mutant that no test notices is a guard that
//! nobody would miss: it is in need of a test, or of an explanation.

mod edit;
mod trial;

pub use edit::{Edit, edits};
pub use trial::{Trial, Verdict};
