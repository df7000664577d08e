//! The main job in one command: a file of requests in, a file of results out.
//!
//! ```text
//! input (checked in full) ─ submitter ─► database ◄─ worker ─► upstream or simulator
//!                                            │ hints, and a sweep every two seconds
//!                                            ▼
//!                              collector ─► writer (a thread) ─► OUT.jsonl
//! ```
//!
//! A run is what it is asked: its input's bytes, the options that change requests, and its upstreams. Their hash
//! ([`identity`]) names its queue and its jobs' idempotency keys, so the same run again finds its jobs, submits
//! nothing twice, and goes on. The database is the truth; OUT is a copy of results that ended, in order of completion.
//!
//! Not here: parsing of lines (`input`), the form of a result (`output_line`), and the options (`commands::run`).

mod collector;
mod engine;
mod identity;
mod outcome;
mod output_file;
mod outstanding;
mod patience;
mod plan;
mod progress;
mod simulator;
mod submitter;
mod summary;
mod tally;
mod upstreams;
mod watch;
mod writer;

pub use engine::work;
pub use output_file::Existing;
pub use plan::{Limits, OnFailure, RunPlan};
pub use simulator::SimulatorThread;
