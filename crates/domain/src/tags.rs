//! Tags: a flat map of strings that users hang on jobs and filter by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Tags of a job, in key order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

/// Tags that can't be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InvalidTags {
    /// Too many pairs.
    #[error("{0} tags were given; at most {max} are allowed", max = Tags::MAX_PAIRS)]
    TooMany(usize),
    /// A key that is empty, too long or holds control characters.
    #[error("tag key {0:?} must have 1 to {max} bytes without control characters", max = Tags::MAX_KEY_BYTES)]
    Key(String),
    /// A value that is too long or holds NUL.
    #[error("the value of tag {0:?} must have at most {max} bytes and no NUL", max = Tags::MAX_VALUE_BYTES)]
    Value(String),
}

impl Tags {
    /// The most pairs a job may have.
    pub const MAX_PAIRS: usize = 64;
    /// The longest key, in bytes.
    pub const MAX_KEY_BYTES: usize = 64;
    /// The longest value, in bytes.
    pub const MAX_VALUE_BYTES: usize = 512;

    /// Checks tags that a user gave.
    pub fn new(pairs: BTreeMap<String, String>) -> Result<Self, InvalidTags> {
        if pairs.len() > Self::MAX_PAIRS {
            return Err(InvalidTags::TooMany(pairs.len()));
        }
        for (key, value) in &pairs {
            if key.is_empty() || key.len() > Self::MAX_KEY_BYTES || key.chars().any(char::is_control) {
                return Err(InvalidTags::Key(key.clone()));
            }
            if value.len() > Self::MAX_VALUE_BYTES || value.contains('\0') {
                return Err(InvalidTags::Value(key.clone()));
            }
        }
        Ok(Self(pairs))
    }

    /// Takes tags as they are stored: they were checked when they were written.
    pub fn from_stored(pairs: BTreeMap<String, String>) -> Self {
        Self(pairs)
    }

    /// The pairs, in key order.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
