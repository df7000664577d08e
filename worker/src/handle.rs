//! The handle of a running worker.

use std::sync::{Arc, PoisonError};

use sluice_domain::IncarnationId;

use crate::{
    Blocked, Unwritten, WorkerError,
    core::{Core, Phase},
};

/// A running worker. Dropping the handle lets go of its calls and ends it in the background; use [`Self::drain`].
pub struct WorkerHandle {
    core: Arc<Core>,
}

impl WorkerHandle {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Attempts that have begun and are not written down yet.
    pub fn in_flight(&self) -> usize {
        self.core.in_flight()
    }

    /// The present incarnation.
    pub fn incarnation_id(&self) -> IncarnationId {
        self.core.incarnation.id()
    }

    /// What kept jobs from running at the last look at the board: paused upstreams and accounts, missing secrets.
    pub fn blocked(&self) -> Vec<Blocked> {
        self.core.blocked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Outcomes that could not be written before the worker ended; none before that.
    pub fn unwritten(&self) -> Unwritten {
        self.core.settler.unwritten()
    }

    /// Why it ends or has ended, where nobody asked it to.
    pub fn failure(&self) -> Option<&WorkerError> {
        self.core.failure.get()
    }

    /// Leases and starts nothing more, and gives back what was not begun; calls under way go on. There is no way
    /// back: the worker waits to be drained, or ends with its last call where it works until it is idle.
    pub fn stop_starting(&self) {
        self.core.advance(Phase::NotStarting);
    }

    /// Starts nothing more, waits for calls under way within the grace, lets go of the rest, and ends.
    pub async fn drain(&self) {
        self.core.advance(Phase::Draining);
        self.join().await;
    }

    /// Lets go of all calls at once, writes that their answers are not known, and ends.
    pub async fn stop_now(&self) {
        self.core.advance(Phase::Stopping);
        self.join().await;
    }

    /// Waits until it has ended: by itself ([`crate::WorkMode::UntilIdle`]), or because it was told to.
    pub async fn join(&self) {
        self.core.signals.ended.cancelled().await;
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.core.advance(Phase::Stopping);
    }
}
