//! Groups that could not be written at their first try, and the one task that tries them again: the oldest first, one
//! at a time, until all are written.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_store::StoreError;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    Settled,
    group::{Group, Origin},
    write::{note_back, note_failure, note_written, refuses_these},
};
use crate::{backoff::Backoff, core::Core, incarnation::bounded};

/// The longest rest between two tries; so soon at the latest it is found out that the database is back.
const MAX_REST: Duration = Duration::from_secs(1);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    groups: Mutex<VecDeque<Group>>,
    added: Notify,
    /// Adopted outcomes on which the database has not had its say.
    unheard: watch::Sender<usize>,
}

impl Backlog {
    pub(super) fn push_back(&self, group: Group) {
        self.lock().push_back(group);
        self.added.notify_one();
    }

    /// Puts adopted outcomes in front: whoever has taken them over waits for them.
    pub(super) fn push_adopted(&self, groups: Vec<Group>) {
        let outcomes: usize = groups.iter().map(Group::len).sum();
        self.unheard.send_modify(|unheard| *unheard += outcomes);
        let mut waiting = self.lock();
        for group in groups.into_iter().rev() {
            waiting.push_front(group);
        }
        drop(waiting);
        self.added.notify_one();
    }

    /// Comes back when the database has had its say on all adopted outcomes, whatever it was.
    pub(super) async fn adopted_heard(&self) {
        // The sender lives as long as this.
        let _ = self.unheard.subscribe().wait_for(|unheard| *unheard == 0).await;
    }

    pub(super) fn take_all(&self) -> VecDeque<Group> {
        std::mem::take(&mut *self.lock())
    }

    fn push_front(&self, group: Group) {
        self.lock().push_front(group);
        self.added.notify_one();
    }

    fn note_heard(&self, group: &Group) {
        if group.origin == Origin::Adopted && !group.was_refused {
            self.unheard.send_modify(|unheard| *unheard = unheard.saturating_sub(group.len()));
        }
    }

    async fn next(&self) -> Group {
        loop {
            // Registered before looking, so that an addition in between is not missed.
            let added = self.added.notified();
            if let Some(group) = self.lock().pop_front() {
                return group;
            }
            added.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Group>> {
        // Nothing that holds the lock can panic half way through a change.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It is written, or its parts are tried next.
    GoOn,
    /// It is tried again, after a rest.
    Rest,
    /// The worker ends.
    Closing,
}

/// Tries what waits, until the worker ends. What is left then is in the backlog.
pub(super) async fn run(core: Arc<Core>, settled: Settled) {
    let (backlog, closing) = (&core.settler.backlog, &core.settler.closing);
    let mut backoff = Backoff::up_to(MAX_REST);
    loop {
        let group = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            group = backlog.next() => group,
        };
        match try_again(&core, group, &settled).await {
            Tried::GoOn => backoff.reset(),
            Tried::Closing => return,
            Tried::Rest => tokio::select! {
                () = closing.cancelled() => return,
                () = sleep(backoff.rest()) => {}
            },
        }
    }
}

async fn try_again(core: &Core, mut group: Group, settled: &Settled) -> Tried {
    let backlog = &core.settler.backlog;
    let before = group.len();
    if !group.load(core).await {
        // Others are in memory, too.
        backlog.push_back(group);
        return Tried::Rest;
    }
    if group.origin == Origin::Adopted && !group.was_refused {
        let unreadable = before - group.len();
        backlog.unheard.send_modify(|unheard| *unheard = unheard.saturating_sub(unreadable));
    }
    let begun = Instant::now();
    let answer = tokio::select! {
        biased;
        answer = bounded(core.store.settle_many(&group.settlements)) => answer,
        () = core.settler.closing.cancelled() => {
            backlog.push_front(group);
            return Tried::Closing;
        }
    };
    match answer {
        Ok(verdicts) => {
            note_back(core);
            core.metrics.settled(verdicts.len(), begun.elapsed());
            backlog.note_heard(&group);
            note_written(core, group, &verdicts, settled.as_ref()).await;
            Tried::GoOn
        }
        Err(error) => put_back(core, group, &error).await,
    }
}

/// Where the database refuses a group, its halves are tried by themselves, so that one settlement that can't be written
/// doesn't keep the others.
async fn put_back(core: &Core, mut group: Group, error: &StoreError) -> Tried {
    let backlog = &core.settler.backlog;
    group.bring_to_spool(core).await;
    if !refuses_these(error) {
        note_failure(core, error, group.len());
        if !error.is_timeout() {
            group.leave_memory_if_scarce(core);
            backlog.push_front(group);
            return Tried::Rest;
        }
        // Perhaps it is this group that takes so long. Smaller, and after all others.
        if let Some(mut second_half) = group.split() {
            second_half.leave_memory_if_scarce(core);
            backlog.push_back(second_half);
        }
        group.leave_memory_if_scarce(core);
        backlog.push_back(group);
        return Tried::Rest;
    }
    if let Some(second_half) = group.split() {
        backlog.push_front(second_half);
        backlog.push_front(group);
        return Tried::GoOn;
    }
    if !group.was_refused {
        note_failure(core, error, 1);
        backlog.note_heard(&group);
        group.was_refused = true;
    }
    group.leave_memory_if_scarce(core);
    // What can't be written must not stand in the way of what can.
    backlog.push_back(group);
    Tried::Rest
}
