//! What clients send: JSON taken apart field by field, so that each refusal names its culprit.
//!
//! Values are kept as the raw slices of the input until they are understood: a job's body is stored byte for byte, and
//! numbers that no float can hold pass through. Not here: HTTP (`server`, `handlers`).

mod batch_line;
mod call;
mod call_headers;
mod depth;
mod fields;
mod filter;
mod members;
mod submission;

use std::fmt::Display;

pub(crate) use batch_line::parse_batch_line;
pub(crate) use call::{AnswerForm, NewCall, parse_call};
pub(crate) use call_headers::CallWishes;
use depth::is_deeper_than;
pub(crate) use fields::Fields;
pub use filter::filter_from_pairs;
pub(crate) use filter::{ManyRequest, MatchRequest, parse_match_request};
pub use submission::{parse_submission, wall_clock};
use thiserror::Error;

/// How a client's input is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputFault {
    /// It is no JSON object in UTF-8 (400).
    Malformed,
    /// It is larger than is taken (413).
    TooLarge,
    /// It is well-formed, and a field of it can't be used (422).
    Invalid,
}

/// Input that was refused; nothing was stored of it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{message}")]
pub struct InvalidInput {
    /// How it is wrong.
    pub fault: InputFault,
    /// A stable word for programs.
    pub code: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
    /// JSON pointer (RFC 6901) of the culprit, or the name of the query parameter.
    pub pointer: Option<String>,
}

impl InvalidInput {
    pub(crate) fn malformed(code: &'static str, message: impl Into<String>) -> Self {
        Self { fault: InputFault::Malformed, code, message: message.into(), pointer: None }
    }

    pub(crate) fn at(pointer: impl Into<String>, code: &'static str, message: impl Display) -> Self {
        Self { fault: InputFault::Invalid, code, message: message.to_string(), pointer: Some(pointer.into()) }
    }

    pub(crate) fn value(pointer: impl Into<String>, message: impl Display) -> Self {
        Self::at(pointer, "invalid_value", message)
    }
}

/// The sentence's end that names the nearest of `known`, or all of them where none is near.
pub(crate) fn suggestion(given: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .min()
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(2));
    match nearest {
        Some((_, word)) => format!("did you mean {word:?}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// A member's name as a step of a JSON pointer.
pub(crate) fn pointer_step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
