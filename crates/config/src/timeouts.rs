//! How long each part of a call to an upstream may take.

use std::time::Duration;

use serde::Serialize;

use crate::{
    duration,
    problem::Problems,
    section::{Field, Section},
};

/// The clocks of a call. What each is for stands with `provider::Timeouts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Timeouts {
    /// Sending the request.
    #[serde(serialize_with = "duration::serialize")]
    pub send: Duration,
    /// To the first byte of the answer, and between signs of life until the first token.
    #[serde(serialize_with = "duration::serialize")]
    pub first_byte: Duration,
    /// To the first token.
    #[serde(serialize_with = "duration::serialize")]
    pub first_token: Duration,
    /// Between two tokens.
    #[serde(serialize_with = "duration::serialize")]
    pub between_tokens: Duration,
    /// The whole call.
    #[serde(serialize_with = "duration::serialize")]
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            send: Duration::from_secs(30),
            first_byte: Duration::from_mins(10),
            first_token: Duration::from_mins(15),
            between_tokens: Duration::from_mins(1),
            total: Duration::from_hours(1),
        }
    }
}

impl Timeouts {
    /// Whether all are as they are where nothing is said.
    pub fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// Reads `timeouts` of an upstream.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Self {
        let mut timeouts = Self::default();
        let known = ["send", "first_byte", "first_token", "between_tokens", "total"];
        let Some(section) = Section::of(field, &known, problems) else { return timeouts };
        let range = Duration::from_millis(1)..=Duration::from_hours(24);
        for (key, value) in [
            ("send", &mut timeouts.send),
            ("first_byte", &mut timeouts.first_byte),
            ("first_token", &mut timeouts.first_token),
            ("between_tokens", &mut timeouts.between_tokens),
            ("total", &mut timeouts.total),
        ] {
            if let Some(wait) = section.get(key).and_then(|f| f.duration(range.clone(), problems)) {
                *value = wait;
            }
        }
        timeouts
    }
}
