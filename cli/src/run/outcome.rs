//! Why a run came to its end.

use crate::exit::Exit;

use super::tally::Tally;

/// Why a run came to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Every line has its result, or its job is held.
    Complete,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// What it may spend is spent.
    CostReached,
    /// A job failed, and that was to be the end.
    FailedFast,
    /// Nothing can go on: an upstream or account is paused, or can't be called. The reason, with what to do.
    Blocked(String),
}

impl Ending {
    /// The exit code.
    pub fn exit(&self, tally: &Tally) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::Blocked(_) => Exit::Unreachable,
            Self::Complete if tally.is_all_well() => Exit::Done,
            Self::Complete | Self::CostReached | Self::FailedFast => Exit::SomeJobsFailed,
        }
    }

    /// What is said of it; `None` where nothing needs to be.
    pub fn said(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Interrupted => {
                Some("interrupted: what was done is kept; run the same command again to go on".to_owned())
            }
            Self::CostReached => {
                Some("stopped at --max-cost: run again with a higher one to go on".to_owned())
            }
            Self::FailedFast => {
                Some("stopped at the first failure (--fail-fast): run again without it to go on".to_owned())
            }
            Self::Blocked(reason) => {
                Some(format!("stopped: {reason}; then run the same command again to go on"))
            }
        }
    }
}
