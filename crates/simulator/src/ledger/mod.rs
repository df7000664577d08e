//! The record of every call received: what a checker joins with what clients and the database say.
//!
//! A call is received when its whole body has been read. It is recorded before anything is answered: in memory, and
//! in a file of JSON lines where one is asked for, fsynced by a writer thread that commits in groups. A second line
//! says how it ended. A call without a second line was *open* when the simulator died.

mod file;
mod memory;

pub(crate) use file::LedgerFile;
pub use file::read_ledger;
pub(crate) use memory::CallBook;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sluice_domain::{NanoUsd, Usage};

use crate::fault::FaultKind;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It has not ended, or the simulator died first.
    Open,
    /// A success status and the whole body were handed to the connection.
    Answered,
    /// An error status and its whole body were handed to the connection.
    Error,
    /// The connection broke, by a fault or by the client, before the answer was complete.
    Cut,
}

/// A call as it is received.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallArrival {
    /// Number of the call, from 1, in order of arrival; goes on over restarts with the same file.
    pub call: u64,
    /// The id that the answer gives (`x-request-id`).
    pub request_id: String,
    /// The request's own `x-request-id`.
    pub call_id: Option<String>,
    /// When its body had been read.
    pub arrived_at: DateTime<Utc>,
    /// The account it is charged to; never a key.
    pub account: Option<String>,
    /// The path.
    pub path: String,
    /// The model it asks for.
    pub model: Option<String>,
    /// SHA-256 of the raw body, in hex.
    pub body_sha256: String,
    /// SHA-256 of the prompt's text, in hex; see [`crate::prompt_sha256`].
    pub prompt_sha256: Option<String>,
    /// The body's `user`, else its `metadata.key`.
    pub custom_key: Option<String>,
    /// What stands in the prompt's `[[sim:…]]`.
    pub marker: Option<String>,
    /// Size of the body.
    pub bytes: u64,
}

/// How a call ended, and what it cost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallEnd {
    /// Number of the call.
    pub call: u64,
    /// How.
    pub ended: Ended,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// HTTP status that was sent or was to be sent; `None` where nothing was to be answered.
    pub status: Option<u16>,
    /// What struck it.
    pub fault: Option<FaultKind>,
    /// What was billed: the true numbers, whatever the answer says.
    pub usage: BilledUsage,
    /// What it cost, in billionths of a USD.
    pub cost_nano_usd: NanoUsd,
}

/// Tokens that were billed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BilledUsage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the prompt from the context cache.
    pub cached_input_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Tokens of the answer that were reasoning.
    pub reasoning_tokens: u64,
}

impl From<Usage> for BilledUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }
    }
}

/// A call with both of its lines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallRecord {
    /// How it came.
    #[serde(flatten)]
    pub arrival: CallArrival,
    /// How it ended, if it has.
    pub end: Option<CallEnd>,
}

impl CallRecord {
    /// How it ended; [`Ended::Open`] while it has not.
    pub fn ended(&self) -> Ended {
        self.end.as_ref().map_or(Ended::Open, |end| end.ended)
    }

    /// The status that was answered, if any.
    pub fn status(&self) -> Option<u16> {
        self.end.as_ref().and_then(|end| end.status)
    }
}

/// A line of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum LedgerLine {
    Arrived(CallArrival),
    Ended(CallEnd),
}
