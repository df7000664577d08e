//! The states of a job and the edges between them.
//!
//! ```text
//!             submit                       lease
//!   (new) ──────────► queued ────────────────────────► running ──── result stored ───► succeeded
//!                       ▲                                │ │ └─── own error, tries, deadline ──► failed
//!                       └── retry, hand-back, expiry ────┘ └───── cancelled ──► cancelled
//!   running ── unknown or expired with on_unknown=hold, poison ──► held ── release ──► queued
//!   queued | held ── cancel ──► cancelled;  deadline out ──► failed;  late success ──► succeeded
//!   succeeded | failed | cancelled ── replay (generation + 1) ──► queued
//! ```
//!
//! The database enforces the same edges (`migrations/`): this table is what the code and the docs are checked against.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A word that is none of the known ones.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{given:?} is no {what}; known are {known}")]
pub struct UnknownWord {
    /// What kind of word was looked for.
    pub what: &'static str,
    /// What was given.
    pub given: String,
    /// The known words, joined by commas.
    pub known: String,
}

impl UnknownWord {
    /// Describes a word that is none of `known`.
    pub fn new<'a>(what: &'static str, given: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self { what, given: given.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable word, the same in SQL, REST and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text)
                    .ok_or_else(|| UnknownWord::new($what, text, Self::ALL.iter().map(|v| v.as_str())))
            }
        }
    };
}

words! {
    /// Where a job stands.
    JobState, "state" {
        /// Waits for a lease, perhaps until a time.
        Queued = "queued",
        /// A worker holds its lease.
        Running = "running",
        /// Waits for a person: its last outcome is unknown, or it is poison.
        Held = "held",
        /// Ended with a result.
        Succeeded = "succeeded",
        /// Ended with an error.
        Failed = "failed",
        /// Ended because somebody said so.
        Cancelled = "cancelled",
    }
}

words! {
    /// How an attempt ended.
    Outcome, "outcome" {
        /// The call was answered and the answer is the job's result.
        Succeeded = "succeeded",
        /// Answered from the cache, without a call.
        Cached = "cached",
        /// The call was answered with an error that may pass.
        Retry = "retry",
        /// The call was answered with the job's own error.
        Failed = "failed",
        /// No byte of the call was sent.
        NotSent = "not_sent",
        /// The call was sent and its answer is not known.
        Unknown = "unknown",
        /// The job was cancelled while the attempt ran.
        Cancelled = "cancelled",
        /// The lease ended without a word of its worker.
        Lost = "lost",
    }
}

words! {
    /// Why a job is held.
    HoldReason, "hold reason" {
        /// A call may have been made and its answer is not known, and the job says `on_unknown: hold`.
        UnknownOutcome = "unknown_outcome",
        /// Every process that worked on it crashed.
        Poison = "poison",
    }
}

impl JobState {
    /// Whether the job has ended: only a replay leads out.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The state after `transition`, or why it is not possible from here.
    pub const fn after(self, transition: Transition) -> Result<Self, IllegalTransition> {
        use JobState::{Cancelled, Failed, Held, Queued, Running, Succeeded};
        match (self, transition) {
            (Queued, Transition::Lease) => Ok(Running),
            (Running, Transition::Requeue)
            | (Held, Transition::Release)
            | (Succeeded | Failed | Cancelled, Transition::Replay) => Ok(Queued),
            (Running, Transition::Hold) => Ok(Held),
            (Running, Transition::Succeed) | (Queued | Held, Transition::LateSuccess) => Ok(Succeeded),
            (Running, Transition::Fail) | (Queued | Held, Transition::DeadlineOut) => Ok(Failed),
            (Queued | Running | Held, Transition::Cancel) => Ok(Cancelled),
            (from, transition) => Err(IllegalTransition { from, transition }),
        }
    }
}

/// What moves a job from one state to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transition {
    /// A worker takes it.
    Lease,
    /// A retry, a deferral, a hand-back or an expired lease.
    Requeue,
    /// Its outcome is unknown and it may not be repeated, or it is poison.
    Hold,
    /// Its result was stored.
    Succeed,
    /// Its own error, or its tries or its deadline ran out.
    Fail,
    /// Somebody cancelled it.
    Cancel,
    /// Somebody let a held job go on.
    Release,
    /// Its deadline passed while it waited.
    DeadlineOut,
    /// The answer of an earlier attempt came after its lease had ended, and it was not leased since.
    LateSuccess,
    /// Somebody starts it again, as a new generation.
    Replay,
}

/// An edge that is not in the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a job that is {from} can not {transition:?}")]
pub struct IllegalTransition {
    /// Where the job stood.
    pub from: JobState,
    /// What was tried.
    pub transition: Transition,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSITIONS: [Transition; 10] = [
        Transition::Lease,
        Transition::Requeue,
        Transition::Hold,
        Transition::Succeed,
        Transition::Fail,
        Transition::Cancel,
        Transition::Release,
        Transition::DeadlineOut,
        Transition::LateSuccess,
        Transition::Replay,
    ];

    #[test]
    fn a_terminal_state_is_left_by_replay_only() {
        for state in JobState::ALL.iter().copied().filter(|s| s.is_terminal()) {
            for transition in TRANSITIONS {
                let after = state.after(transition);
                if transition == Transition::Replay {
                    assert_eq!(after, Ok(JobState::Queued));
                } else {
                    assert_eq!(after, Err(IllegalTransition { from: state, transition }));
                }
            }
        }
    }

    #[test]
    fn only_a_queued_job_can_be_leased() {
        for state in JobState::ALL {
            assert_eq!(state.after(Transition::Lease).is_ok(), *state == JobState::Queued);
        }
    }

    #[test]
    fn words_survive_a_round_trip() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        assert_eq!("done".parse::<JobState>().unwrap_err().what, "state");
    }
}
