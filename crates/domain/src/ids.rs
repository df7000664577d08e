//! Ids. Each is a type of its own, so that one can't stand where another is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
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
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// A job. UUIDv7, so that a job's rows lie together by time and no id is ever used again, not even after a
    /// fail-over that lost transactions.
    JobId
}
uuid_id! {
    /// The right to work one job once. Random (v4) and compared for equality: the fence of every write about a run.
    LeaseId
}
uuid_id! {
    /// One life of a worker process, from start to exit.
    IncarnationId
}
uuid_id! {
    /// One HTTP request to an upstream.
    CallId
}

uuid_id! {
    /// An API key, by which people name it; no secret.
    ApiKeyId
}
uuid_id! {
    /// The end of a job that somebody is told; receivers see it as the header `webhook-id`.
    WebhookId
}

impl ApiKeyId {
    /// A new id for a key that is made at this moment.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl JobId {
    /// A new id for a job that is submitted at this moment.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The same for a job with a webhook. It ends in `5eed`: by that the database sees at a job's end whether somebody may
    /// have asked to be told, without a look-up for all others (`sluice.may_have_webhook`).
    pub fn generate_for_webhook() -> Self {
        let mut bytes = Uuid::now_v7().into_bytes();
        bytes[14..].copy_from_slice(&[0x5e, 0xed]);
        Self(Uuid::from_bytes(bytes))
    }
}

impl LeaseId {
    /// A new random lease id.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl IncarnationId {
    /// A new id for a process that starts at this moment.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl CallId {
    /// A new id for a call that is about to be made.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A lane: one (tenant, queue, model). The id is a hash of the three (`sluice.lane_id` in SQL), so that submitting
/// to a new lane waits for nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaneId(pub i64);
