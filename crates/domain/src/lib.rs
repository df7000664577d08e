//! The words of Sluice as types: ids, quantities, states and what moves a job from one to the next.
//!
//! No I/O, no async, no clock and no randomness: whatever decides gets them as parameters.
//! Not here: decisions (`policy`), statements (`store`), the wire (`provider`, `scheduler`).

mod api_key;
mod attempt;
mod batch;
mod error_class;
mod filter;
mod ids;
mod job;
mod key_rights;
mod limit;
mod look;
mod names;
mod network;
mod quantity;
mod scope;
mod state;
mod submission;
mod tags;
mod webhook;

pub use api_key::{ApiKey, ApiKeyHash, NoApiKey};
pub use attempt::{
    AttemptRecord, Decision, LeasedJob, SettleVerdict, Settlement, StoredAnswer, UpstreamUse, Usage,
};
pub use batch::{Batch, BatchCounts, BatchId, BatchStatus, BatchTimes, FileId, InvalidId, StoredFile};
pub use error_class::ErrorClass;
pub use filter::{JobFilter, PageCursor};
pub use ids::{ApiKeyId, CallId, IncarnationId, JobId, LaneId, LeaseId, WebhookId};
pub use job::{JobError, JobResult, JobView};
pub use key_rights::{KeyRights, NotPermitted};
pub use limit::{DeclaredLimit, LimitId, LimitKind, LimitSubject};
pub use look::{LookBounds, LowestKeys, PairFloors};
pub use names::{
    ApiPath, IdempotencyKey, InvalidName, KeyName, ModelName, QueueName, TenantName, UpstreamName,
};
pub use network::{InvalidNetwork, Network};
pub use quantity::{InvalidPriority, NanoUsd, Priority, TokenCount};
pub use scope::{Scope, Scopes};
pub use state::{HoldReason, IllegalTransition, JobState, Outcome, Transition, UnknownWord};
pub use submission::{
    Conflict, DEFAULT_MAX_ATTEMPTS, MAX_BODY_BYTES, MAX_MAX_ATTEMPTS, NewJob, OnUnknown, SubmitOutcome,
};
pub use tags::{InvalidTags, Tags};
pub use webhook::{InvalidWebhookUrl, WebhookDelivery, WebhookState, WebhookUrl, WebhookView};
