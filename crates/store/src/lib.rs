//! Every SQL statement of Sluice: a file for each concern, a function for each statement.
//!
//! Each statement is a single autocommit one, so that it works through PgBouncer in transaction mode and so that a
//! future that is dropped half way leaves no transaction open. The statements on the hot path call functions of the
//! schema (`migrations/`). Not here: decisions about what to lease, retry or expire (`policy` and the callers).

mod api_keys;
mod attempts;
mod batch_lines;
mod batches;
mod beat;
mod board;
mod breakers;
mod cancel;
mod configuration;
mod connect;
mod cooldowns;
mod crash_point;
mod depth;
mod doctor;
mod error;
mod explain;
mod files;
mod hints;
mod identity;
mod incarnation;
mod job;
mod key_bounds;
mod lease;
mod lease_health;
mod lease_limited;
mod left_calls;
mod limits;
mod maintenance;
mod migrate;
mod nonces;
mod pauses;
mod pool;
mod queues;
mod replay;
mod settle;
mod streams;
mod submit;
mod submit_connection;
mod submit_copy;

pub use api_keys::{ApiKeyView, KeyLookup, NewApiKey, NextApiKey, ValidApiKey};
pub use batch_lines::BatchLine;
pub use batches::{BatchEnd, BatchPage, NewBatch, WrittenFile};
pub use beat::{BeatConnection, BeatReply, WorkerLoad};
pub use board::{BoardEntry, BoardLook, Grant};
pub use breakers::{BreakerTold, OpenBreaker};
pub use cancel::{CancelOutcome, ReleaseOutcome};
pub use configuration::AppliedConfiguration;
pub use connect::{Store, StoreOptions};
pub use cooldowns::{Cooldown, CooledGate, GateWord};
pub use crash_point::{CrashPoint, CrashSite, crash_point};
pub use depth::QueueDepth;
pub use doctor::{ConnectionKind, DatabaseUrl, ReplicaHold, ServerFacts};
pub use error::StoreError;
pub use explain::JobStanding;
pub use files::{FilePage, NewFile};
pub use hints::{Doorbell, DoorbellListener, Ringer};
pub use incarnation::{LockedWorker, NewIncarnation, WorkerRow};
pub use job::Bodies;
pub use key_bounds::Taken;
pub use lease::MAX_LEASE_BATCH;
pub use lease_health::LeaseHealth;
pub use lease_limited::{LimitedGrant, LimitedLease, NoRoom, TooLarge};
pub use left_calls::CallFingerprint;
pub use limits::LimitUse;
pub use maintenance::{ReapRequest, Reaped};
pub use migrate::{MigrationReport, SchemaState};
pub use pauses::{Pause, PausedKind};
pub use replay::ReplayOutcome;
pub use streams::{StreamEvent, StreamPosition};
pub use submit::{MAX_SUBMIT_BATCH, Submitted};
pub use submit_connection::SubmitConnection;
