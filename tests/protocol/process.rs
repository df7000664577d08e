//! The processes: workers with the leases in their hands, and reapers.

use std::hash::{Hash, Hasher};

use sluice_domain::SettleVerdict;

/// A lease as its worker sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Hand {
    pub(crate) worker: usize,
    pub(crate) incarnation: usize,
    pub(crate) job: usize,
    pub(crate) generation: u8,
    pub(crate) lease_no: u8,
    pub(crate) tries: u8,
    pub(crate) phase: Phase,
    /// What really became of its call, which only the upstream knows.
    pub(crate) call: Call,
    /// A later call repeated it: one that comes after that one again is a retry of that one.
    pub(crate) is_repeated: bool,
    /// A fail-over took rows of this lease: counted apart.
    pub(crate) is_forgotten: bool,
}

/// Where a lease is on its way through a worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// The answer of the lease statement is on its way.
    Coming,
    /// The answer was lost: the worker never hears of it, but by a look for strays.
    Unheard,
    /// In hand; its call has not begun.
    InHand,
    /// The last look is behind it, the first byte is not out.
    Starting,
    /// The call is under way.
    Sent,
    /// Its end is to be written.
    Unsettled(Word),
    /// To be given back.
    Returning,
    /// The worker was told that its end is written.
    Told(Told),
    /// Given back, or its process is gone.
    Over,
}

/// What a worker has to say of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Word {
    /// Answered with the result.
    Succeeded,
    /// Answered with an error that may pass.
    Erred,
    /// Sent, and the answer is not known.
    Cut,
    /// Not a byte was sent.
    NotSent,
    /// The job was cancelled.
    LetGo,
}

/// A verdict that can be part of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told(pub(crate) SettleVerdict);

impl Hash for Told {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.0 as u8);
    }
}

/// What the upstream saw.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Call {
    None,
    UnderWay,
    Succeeded,
    Erred,
    Cut,
}

/// A worker process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    pub(crate) incarnation: usize,
    /// Since the sending of the last acknowledged beat, by its own clock.
    pub(crate) own_age: u8,
    pub(crate) knows_dead: bool,
    /// A beat was written and its acknowledgement is on the way: its age since the sending.
    pub(crate) late_ack: Option<u8>,
}

/// What ails a worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Life {
    Up,
    /// It runs and can't reach the database.
    Cut,
    /// Stopped, or suspended with its machine.
    Stopped,
    /// Its process has ended.
    Gone,
}

/// The reaper of one scheduler.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reaper {
    /// Since its last scan; `None`: it just started.
    pub(crate) last_scan: Option<u8>,
    /// Ticks that its brake still holds.
    pub(crate) brake: u8,
    /// The database's clock jumped, or another postmaster answers, since its last scan.
    pub(crate) is_jumped: bool,
    pub(crate) is_other_server: bool,
    /// Only where the rule is out that a reaper acts on what it locks: what an earlier look found.
    pub(crate) found: Vec<usize>,
}
