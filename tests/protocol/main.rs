//! The lease protocol as a model that is checked in every order of events, within bounds.
//!
//! What is modelled: the SQL functions as indivisible steps (`statements`), workers as far as they hold leases
//! (`action`, `perform`), reapers with the product's own brake (`reaper`), and what goes wrong (`faults`). What becomes
//! of a job is the product's own decision too (`policy::retry`), and its edges are `JobState::after`.
//!
//! `holds` checks that every promise holds. `broken` takes one rule out at a time and checks that a promise breaks: so
//! each rule is needed, and the checker would see it go. `docs/design/protocol.md` is the page about it.

mod action;
mod action_of_lease;
mod broken;
mod budget;
mod faults;
mod holds;
mod people;
mod perform;
mod process;
mod properties;
mod protocol;
mod reaper;
mod rules;
mod settle;
mod statements;
mod world;
