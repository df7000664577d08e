//! The words of Sluice as types: ids, quantities, states and what moves a job from one to the next.
//!
//! No I/O, no async, no clock and no randomness: whatever decides gets them as parameters.
//! Not here: decisions (`policy`), statements (`store`), the wire (`provider`, `scheduler`).

mod attempt;
mod error_class;
mod filter;
mod ids;
mod job;
mod look;
mod names;
mod quantity;
mod state;
mod submission;
mod tags;

pub use attempt::{
    AttemptRecord, Decision, LeasedJob, SettleVerdict, Settlement, StoredAnswer, UpstreamUse, Usage,
};
pub use error_class::ErrorClass;
pub use filter::{JobFilter, PageCursor};
pub use ids::{CallId, IncarnationId, JobId, LaneId, LeaseId};
pub use job::{JobError, JobResult, JobView};
pub use look::{LookBounds, LowestKeys, PairFloors};
pub use names::{ApiPath, IdempotencyKey, InvalidName, ModelName, QueueName, TenantName, UpstreamName};
pub use quantity::{InvalidPriority, NanoUsd, Priority, TokenCount};
pub use state::{HoldReason, IllegalTransition, JobState, Outcome, Transition, UnknownWord};
pub use submission::{
    Conflict, DEFAULT_MAX_ATTEMPTS, MAX_BODY_BYTES, MAX_MAX_ATTEMPTS, NewJob, OnUnknown, SubmitOutcome,
};
pub use tags::{InvalidTags, Tags};
