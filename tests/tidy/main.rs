//! The house rules that no compiler checks, as tests: which crate may know which, how long a file may be, what must not
//! be in the repository, and that everything in the database is explained.
//!
//! Each test collects everything that is wrong before it fails. A rule that has to give way somewhere gives way in a
//! list with a reason, next to the rule.

mod catalogue;
mod edges;
mod files;
mod reachable;
mod repository;
mod words;
