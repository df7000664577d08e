//! How a command ends: its exit code, and the one line that says what went wrong and what to do next.

use std::{error::Error, process::ExitCode};

use sluice_cluster::ClusterError;
use sluice_store::StoreError;
use thiserror::Error as ThisError;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: all of it is done.
    Done,
    /// 1: some jobs failed, or did not come to an end.
    SomeJobsFailed,
    /// 2: wrong usage: arguments, input or a file that can't be used as asked.
    WrongUsage,
    /// 3: something could not be reached: a database, a file system, an upstream.
    Unreachable,
    /// 130: interrupted by Ctrl-C or SIGTERM; what was done is kept.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::SomeJobsFailed => 1,
            Exit::WrongUsage => 2,
            Exit::Unreachable => 3,
            Exit::Interrupted => 130,
        })
    }
}

/// Why a command could not do its work. The text is one line (or one a problem) and says what to do next.
#[derive(Debug, ThisError)]
pub enum CliError {
    /// Something that the user gave is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something could not be reached: exit code 3.
    #[error("{0}")]
    Unreachable(String),
}

impl CliError {
    /// An error of usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Something could not be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable(message.into())
    }

    /// The same, said of one of many things.
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        match self {
            Self::Usage(text) => Self::Usage(format!("{what}: {text}")),
            Self::Unreachable(text) => Self::Unreachable(format!("{what}: {text}")),
        }
    }

    /// The exit code that it means.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::WrongUsage,
            Self::Unreachable(_) => Exit::Unreachable,
        }
    }
}

/// An error with its causes in one line.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        // Some crates repeat their source in their own text.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let text = format!("failed to {}", causes(&error));
        match error {
            StoreError::BadUrl(_) => Self::Usage(format!(
                "{text}; DATABASE_URL looks like postgres://user:password@host:5432/name (leave it out for a \
                 private database)"
            )),
            StoreError::Unavailable(_) => {
                Self::Unreachable(format!("{text}; check DATABASE_URL and that the database runs"))
            }
            _ => Self::Unreachable(text),
        }
    }
}

impl From<ClusterError> for CliError {
    fn from(error: ClusterError) -> Self {
        Self::Unreachable(format!("failed to {}", causes(&error)))
    }
}
