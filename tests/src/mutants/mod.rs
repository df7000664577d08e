//! Mutants of the SQL functions: each guard taken out or turned, one at a time, to see whether a test notices.
//!
//! `edit` finds what can be changed in a function's text, `server` plants one change into the database that test
//! databases are copies of and takes it back, `program` runs tests and ends with the first that fails, `hunt` asks those
//! tests that reach the function, `notes` keeps what they said, `score` counts. `tests/mutants` runs it all. A mutant that
//! no test notices is a guard that nobody would miss: it is in need of a test, or of an explanation.

mod edit;
mod hunt;
mod notes;
mod program;
mod score;
mod server;

pub use edit::{Edit, edits};
pub use hunt::{Hunt, Mutant};
pub use notes::{MutantNote, Notes, TestNote, Verdict};
pub use program::{Outcome, Program};
pub use score::{Accepted, Score};
pub use server::MutantServer;
