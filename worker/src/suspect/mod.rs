//! Suspects: jobs with two crashes behind them. Each runs in a child process of its own, so that what is held as poison
//! is what crashed alone, and never what merely shared a process with it.
//!
//! The parent keeps the lease, the ledger, the spans and the decisions. The child gets a call and where it goes to, makes
//! it, judges the answer, and tells its report: it is the one that handles foreign bytes. [`child`] is its side,
//! [`parent`] the other, [`wire`] what they tell each other.
//!
//! What is bounded, and by whom:
//!
//! - *time*: the call by its own clocks, in the child; the child by the parent, which kills it when it shows no sign of
//!   life at eight looks within twice the TTL of a lease, or is not done that long after the call's last clock;
//! - *memory*: the child limits its own address space before it reads anything;
//! - *output*: the parent reads no longer piece than an answer can be, and kills whoever tells one;
//! - *number*: so many children at once; other suspects go back for a few seconds, so that slots are left for others.
//!
//! A child that ends before its report is a crash, whatever ended it, but for a signal that asks politely (a service
//! manager may send that to every process of a service) and for SIGKILL, which no fault of its own brings. Its call may have been sent, and the ledger says `lost`. A child
//! whose parent dies sees the end of its standard input and ends at once; the parent-death signal of Linux would come at
//! the death of the *thread* that started the child, which is none of our business.

mod child;
mod command;
mod parent;
mod wire;

pub use child::attempt_for_parent;
pub use command::SuspectCommand;
pub(crate) use parent::{Crash, InChild};

use std::time::Duration;

use sluice_domain::LeasedJob;
use sluice_policy::retry::SUSPECT_CRASHES;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Children at once. One takes some ten megabytes, and the suspects that a crash leaves are seldom more.
const MAX_CHILDREN: usize = 32;

/// What a worker needs for its suspects.
#[derive(Debug)]
pub(crate) struct Suspects {
    command: Option<SuspectCommand>,
    room: Semaphore,
    /// Without a sign of life for so long, an attempt is stuck.
    stuck_after: Duration,
}

/// The right to start one child.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    command: &'a SuspectCommand,
    stuck_after: Duration,
    _permit: SemaphorePermit<'a>,
}

/// Where a job's call is to be made.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// In this process.
    Here,
    /// In a child.
    Child(Room<'a>),
    /// In a child, and there are too many.
    NoRoom,
}

impl Suspects {
    pub(crate) fn new(command: Option<SuspectCommand>, stuck_after: Duration) -> Self {
        Self { command, room: Semaphore::new(MAX_CHILDREN), stuck_after }
    }

    /// Whether suspects get a process of their own.
    pub(crate) fn are_isolated(&self) -> bool {
        self.command.is_some()
    }

    /// Where the call of `job` is to be made now.
    pub(crate) fn place(&self, job: &LeasedJob) -> Place<'_> {
        let Some(command) = self.command.as_ref().filter(|_| job.crashes >= SUSPECT_CRASHES) else {
            return Place::Here;
        };
        match self.room.try_acquire() {
            Ok(permit) => Place::Child(Room { command, stuck_after: self.stuck_after, _permit: permit }),
            Err(_) => Place::NoRoom,
        }
    }
}
