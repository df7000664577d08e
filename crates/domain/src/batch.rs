//! Files and batches: their ids, and how a batch stands.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{TenantName, UnknownWord};

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Takes the id as it is stored.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The id as it is stored.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix($prefix).filter(|digits| digits.len() == 32).ok_or(InvalidId)?;
                Uuid::try_parse(digits).map(Self).map_err(|_| InvalidId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// A text that is no id of this kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is no id of ours")]
pub struct InvalidId;

prefixed_id!(
    /// A file.
    FileId,
    "file-"
);
prefixed_id!(
    /// A batch.
    BatchId,
    "batch_"
);

/// A complete file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredFile {
    /// Its id.
    pub id: FileId,
    /// What it is for.
    pub purpose: String,
    /// Its name.
    pub filename: String,
    /// Its size.
    pub bytes: u64,
    /// How many chunks it has.
    pub chunks: u32,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it is deleted.
    pub expires_at: Option<DateTime<Utc>>,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// How a batch stands.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
        pub enum BatchStatus {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl BatchStatus {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

statuses! {
    /// Its file is read, and its jobs are stored.
    Validating = "validating",
    /// Its file can't be used; nothing was called.
    Failed = "failed",
    /// Its jobs are worked.
    InProgress = "in_progress",
    /// All jobs have ended, and its files are written.
    Finalizing = "finalizing",
    /// Its files are there.
    Completed = "completed",
    /// Its window was over before all jobs had an answer; its files are there.
    Expired = "expired",
    /// It is being cancelled.
    Cancelling = "cancelling",
    /// It was cancelled; what was there by then is in its files.
    Cancelled = "cancelled",
}

impl BatchStatus {
    /// Whether nothing more becomes of it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }
}

impl fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BatchStatus {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .iter()
            .copied()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWord::new("batch_status", text, Self::ALL.iter().map(|s| s.as_str())))
    }
}

/// Where the lines of a batch stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BatchCounts {
    /// Lines of its file.
    pub total: u32,
    /// Lines with a result.
    pub completed: u32,
    /// Lines that ended without one.
    pub failed: u32,
}

/// When a batch reached what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchTimes {
    /// It was submitted.
    pub created_at: DateTime<Utc>,
    /// Its window ends.
    pub expires_at: DateTime<Utc>,
    /// Its jobs were stored.
    pub in_progress_at: Option<DateTime<Utc>>,
    /// All of them had ended.
    pub finalizing_at: Option<DateTime<Utc>>,
    /// It was completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// Its file turned out not to be usable.
    pub failed_at: Option<DateTime<Utc>>,
    /// It ended because its window was over.
    pub expired_at: Option<DateTime<Utc>>,
    /// Somebody cancelled it.
    pub cancelling_at: Option<DateTime<Utc>>,
    /// It was cancelled.
    pub cancelled_at: Option<DateTime<Utc>>,
}

/// A batch with all that is shown of it, and how its jobs are queued.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Whose it is.
    pub tenant: TenantName,
    /// The path that its lines call.
    pub endpoint: String,
    /// Its input.
    pub input_file: FileId,
    /// The window, as it was asked for.
    pub completion_window: String,
    /// How it stands.
    pub status: BatchStatus,
    /// The user's pairs.
    pub metadata: Option<serde_json::Value>,
    /// The line its jobs stand in.
    pub queue: String,
    /// How urgent they are.
    pub priority: u8,
    /// What is wrong with its file.
    pub errors: Option<serde_json::Value>,
    /// The model of its lines, where all ask for the same.
    pub model: Option<String>,
    /// Its lines.
    pub counts: BatchCounts,
    /// Tokens of all its lines, once it has ended.
    pub usage: Option<serde_json::Value>,
    /// The results.
    pub output_file: Option<FileId>,
    /// The failures.
    pub error_file: Option<FileId>,
    /// How long its files are kept, in seconds.
    pub output_expires_s: Option<u32>,
    /// Its times.
    pub times: BatchTimes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = FileId::generate();
        assert!(id.to_string().starts_with("file-"));
        assert_eq!(id.to_string().parse(), Ok(id));
        let batch = BatchId::generate();
        assert_eq!(batch.to_string().parse(), Ok(batch));
        for other in ["", "file-", "batch_1", &batch.to_string(), &id.as_uuid().to_string(), "file-\u{e9}"] {
            assert_eq!(other.parse::<FileId>(), Err(InvalidId), "{other}");
        }
    }
}
