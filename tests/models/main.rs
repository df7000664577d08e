//! A model of the public API, and the product driven beside it.
//!
//! `model` says in memory what jobs, leases and keys become by each action. `proptest` makes up sequences of actions
//! (`action`); `system` performs them on the product by its doors (REST, SQL, the store), on a real Postgres. After each
//! action the answer and everything that is shown of each job must be what the model says. A sequence that breaks this
//! is shrunk to the actions that are needed. `planted` breaks functions of the database on purpose: the model notices.
//!
//! Actions come one after the other: what happens at the same moment is the business of `tests/faults` (rows 18, 19)
//! and of the protocol's model (`tests/protocol`).

mod action;
mod check;
mod doors;
mod follow;
mod model;
mod planted;
mod sequences;
mod settling;
mod system;
mod windows;
mod words;
mod world;
