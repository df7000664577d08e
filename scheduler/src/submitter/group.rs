//! Jobs that are stored by one statement.

use std::sync::{Arc, PoisonError};

use sluice_domain::NewJob;
use sluice_store::{StoreError, Submitted};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant, timeout},
};

use super::{Desk, PATIENCE, Stored, Submit, Writer};
use crate::server::ApiError;

/// The most jobs of a group.
const MAX_GROUP: usize = 500;
/// A group is full when its bodies have so many bytes.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How long a group waits for a key that another transaction holds.
const KEY_WAIT: Duration = Duration::from_millis(5);
/// A group that waited so long for the database in vain is refused together with those that waited behind it.
const LONG_WAIT: Duration = Duration::from_secs(1);

type Verdict = oneshot::Sender<Result<Stored, ApiError>>;

/// Jobs, and beside each who waits to hear of it.
#[derive(Default)]
pub(super) struct Group {
    jobs: Vec<NewJob>,
    seats: Vec<(Instant, Verdict)>,
    bytes: usize,
}

impl Group {
    /// Takes `first` and what has come after it, as far as it fits.
    pub(super) fn gather(first: Submit, coming: &mut mpsc::UnboundedReceiver<Submit>) -> Self {
        let mut group = Self::default();
        group.push(first);
        while group.jobs.len() < MAX_GROUP && group.bytes < MAX_GROUP_BYTES {
            match coming.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        group
    }

    /// Adds a job, unless its client has gone.
    fn push(&mut self, submit: Submit) {
        if submit.verdict.is_closed() {
            return;
        }
        self.bytes += submit.job.body.len();
        self.jobs.push(submit.job);
        self.seats.push((submit.arrived_at, submit.verdict));
    }

    fn into_submits(self) -> impl Iterator<Item = Submit> {
        let seats = self.seats.into_iter();
        self.jobs.into_iter().zip(seats).map(|(job, (arrived_at, verdict))| Submit {
            job,
            arrived_at,
            verdict,
        })
    }

    /// The jobs without a key, and those with one.
    fn split_by_key(self) -> (Self, Vec<Submit>) {
        let (mut free, mut keyed) = (Self::default(), Vec::new());
        for submit in self.into_submits() {
            if submit.job.idempotency_key.is_some() { keyed.push(submit) } else { free.push(submit) }
        }
        (free, keyed)
    }

    /// Takes out the second half.
    fn split_half(&mut self) -> Self {
        let middle = self.jobs.len() / 2;
        Self { jobs: self.jobs.split_off(middle), seats: self.seats.split_off(middle), bytes: 0 }
    }

    fn refuse(self, error: &ApiError) {
        for (_, verdict) in self.seats {
            // Nobody hears it where the client has gone.
            let _ = verdict.send(Err(error.clone()));
        }
    }
}

impl Writer {
    /// Stores a group, and tells everybody.
    pub(super) async fn store(&mut self, group: Group) {
        let mut waiting = vec![self.desk.refuse_overdue(group)];
        while let Some(mut group) = waiting.pop() {
            if group.jobs.is_empty() {
                continue;
            }
            let begun = Instant::now();
            let storing = timeout(PATIENCE, self.outcomes(&group.jobs));
            match storing.await.unwrap_or_else(|_| Err(StoreError::timed_out())) {
                Ok(Some(submitted)) => self.tell(group, submitted).await,
                Ok(None) => waiting.extend(self.send_keyed_alone(group)),
                Err(error) if error.is_unavailable() => {
                    self.desk.note_outage(begun.elapsed());
                    group.refuse(&error.into());
                }
                Err(error) if group.jobs.len() == 1 => group.refuse(&error.into()),
                Err(error) => {
                    tracing::debug!(error = %error, jobs = group.jobs.len(), "a group is stored in halves");
                    waiting.push(group.split_half());
                    waiting.push(group);
                }
            }
        }
    }

    /// Stores jobs by one statement. `None`: a lock was in the way.
    async fn outcomes(&mut self, jobs: &[NewJob]) -> Result<Option<Submitted>, StoreError> {
        match jobs {
            [job] if job.idempotency_key.is_none() && job.webhook.is_none() => {
                self.connection.submit_keyless(job, self.desk.loner.may_ring_within()).await
            }
            jobs => self.connection.submit_many_if_keys_free(jobs, KEY_WAIT).await,
        }
    }

    /// Lets the jobs with keys go on alone, and gives back the others.
    fn send_keyed_alone(&self, group: Group) -> Option<Group> {
        let (free, keyed) = group.split_by_key();
        if keyed.is_empty() {
            // No key was in the way, but somebody who holds a whole table.
            free.refuse(&ApiError::database_busy());
            return None;
        }
        for submit in keyed {
            tokio::spawn(Arc::clone(&self.desk.loner).store(submit));
        }
        Some(free)
    }

    /// Tells what became of the jobs of one statement, which has committed.
    async fn tell(&self, group: Group, submitted: Submitted) {
        let Submitted { outcomes, created_at } = submitted;
        if created_at.is_some() {
            self.desk.loner.ring();
            // The ringer first: somebody sleeps who could be at work.
            tokio::task::yield_now().await;
        }
        for ((job, (_, verdict)), outcome) in group.jobs.into_iter().zip(group.seats).zip(outcomes) {
            // Nobody hears it where the client has gone.
            let _ = verdict.send(Ok(Stored::of(job, outcome, created_at)));
        }
    }
}

impl Desk {
    fn note_outage(&self, waited: Duration) {
        if waited >= LONG_WAIT {
            *self.gave_up_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// Refuses the jobs that waited while an earlier group waited in vain for the database: it would be their turn to wait
    /// as long once more.
    fn refuse_overdue(&self, group: Group) -> Group {
        let gave_up_at = *self.gave_up_at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gave_up_at) = gave_up_at else { return group };
        let (mut overdue, mut fresh) = (Group::default(), Group::default());
        for submit in group.into_submits() {
            let is_overdue = submit.arrived_at + LONG_WAIT < gave_up_at;
            if is_overdue { overdue.push(submit) } else { fresh.push(submit) }
        }
        overdue.refuse(&ApiError::database_unavailable());
        fresh
    }
}
