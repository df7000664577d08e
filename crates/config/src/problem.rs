//! What is wrong with a configuration, and where.

use std::fmt;

use serde_saphyr::Location;
use thiserror::Error;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where in the structure, such as `upstreams[0].base_url`; empty for the whole.
    pub path: String,
    /// Line and column in the text, both from 1, where they are known.
    pub position: Option<(u64, u64)>,
    /// What is wrong, and what would be right. It never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.path, self.position) {
            ("", None) => f.write_str(&self.message),
            ("", Some((line, column))) => write!(f, "line {line}, column {column}: {}", self.message),
            (path, None) => write!(f, "{path}: {}", self.message),
            (path, Some((line, column))) => {
                write!(f, "{path} (line {line}, column {column}): {}", self.message)
            }
        }
    }
}

/// Everything that is wrong with a configuration, in the order of the text. Never empty.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<Problem>);

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem at a place in the text.
    pub(crate) fn add(&mut self, path: impl Into<String>, location: Location, message: impl Into<String>) {
        let position = (location.line() > 0).then(|| (location.line(), location.column()));
        self.0.push(Problem { path: path.into(), position, message: message.into() });
    }

    /// The value where there was no problem; else all of them.
    pub(crate) fn or<T>(mut self, value: T) -> Result<T, ConfigErrors> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by_key(|problem| problem.position);
        Err(ConfigErrors(self.0))
    }
}
