//! Jobs that are stored by a statement of their own: large ones, and those whose key another transaction holds.
//!
//! A key is waited for by looking again and again, not by a statement that hangs: hundreds that wait for keys would
//! take every connection of the pool and delay everybody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sluice_domain::{Conflict, IdempotencyKey, NewJob, SubmitOutcome, TenantName};
use sluice_store::{Ringer, Store, StoreError};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use super::{PATIENCE, Stored, Submit};
use crate::server::ApiError;

/// How long a submit waits for a key before it is told to try again.
const KEY_PATIENCE: Duration = Duration::from_secs(2);
/// How long one look waits.
const KEY_WAIT: Duration = Duration::from_millis(5);
/// Between two looks: doubling, from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(160);
/// Looks at once, of all that wait.
const LOOKS: usize = 4;

/// A key is one of its tenant's.
type TenantsKey = (TenantName, IdempotencyKey);

/// Stores jobs one by one.
pub(super) struct Loner {
    store: Store,
    ready_bell: Ringer,
    looks: Semaphore,
    /// The keys that are waited for, and by how many.
    waited_for: Mutex<HashMap<TenantsKey, usize>>,
}

impl Loner {
    pub(super) fn new(store: Store, ready_bell: Ringer) -> Self {
        Self { store, ready_bell, looks: Semaphore::new(LOOKS), waited_for: Mutex::default() }
    }

    /// Whether somebody waits for the key of this job.
    pub(super) fn waits_for_key_of(&self, job: &NewJob) -> bool {
        let waited_for = self.waited_for.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly nobody waits.
        !waited_for.is_empty() && key_of(job).is_some_and(|key| waited_for.contains_key(&key))
    }

    /// Stores a job, and tells who submitted it.
    pub(super) async fn store(self: Arc<Self>, submit: Submit) {
        let Submit { job, arrived_at, verdict } = submit;
        let answer = match self.outcome(&job, arrived_at, || verdict.is_closed()).await {
            Ok(outcome) => {
                if matches!(outcome, SubmitOutcome::Created(_)) {
                    self.ring();
                }
                Ok(Stored::of(job, outcome, None))
            }
            Err(error) => Err(error),
        };
        // Nobody hears it where the client has gone.
        let _ = verdict.send(answer);
    }

    async fn outcome(
        &self,
        job: &NewJob,
        arrived_at: Instant,
        is_given_up: impl Fn() -> bool,
    ) -> Result<SubmitOutcome, ApiError> {
        if let Some(outcome) = self.stored(job).await? {
            return Ok(outcome);
        }
        if job.idempotency_key.is_none() {
            // Somebody holds a whole table.
            return Err(ApiError::database_busy());
        }
        let _waiting = self.wait_for_key_of(job);
        let mut pause = FIRST_PAUSE;
        while arrived_at.elapsed() + pause < KEY_PATIENCE && !is_given_up() {
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            // Never closed.
            let _look = self.looks.acquire().await;
            if let Some(outcome) = self.stored(job).await? {
                return Ok(outcome);
            }
        }
        Ok(SubmitOutcome::Conflict(Conflict::KeyInUse))
    }

    /// Tries once; `None`: another transaction holds the key.
    async fn stored(&self, job: &NewJob) -> Result<Option<SubmitOutcome>, StoreError> {
        let storing = self.store.submit_many_if_keys_free(std::slice::from_ref(job), KEY_WAIT);
        let outcomes = timeout(PATIENCE, storing).await.unwrap_or_else(|_| Err(StoreError::timed_out()))?;
        Ok(outcomes.and_then(|outcomes| outcomes.into_iter().next()))
    }

    /// There is new work.
    pub(super) fn ring(&self) {
        self.ready_bell.ring();
    }

    /// Whether the last ring was so long ago that the next one may go with a submit's own statement.
    pub(super) fn may_ring_within(&self) -> bool {
        !self.ready_bell.is_resting()
    }

    fn wait_for_key_of(&self, job: &NewJob) -> Option<KeyWait<'_>> {
        let key = key_of(job)?;
        let mut waited_for = self.waited_for.lock().unwrap_or_else(PoisonError::into_inner);
        *waited_for.entry(key.clone()).or_default() += 1;
        Some(KeyWait { loner: self, key })
    }
}

fn key_of(job: &NewJob) -> Option<TenantsKey> {
    Some((job.tenant.clone(), job.idempotency_key.clone()?))
}

/// Somebody waits for a key, until this is dropped.
struct KeyWait<'a> {
    loner: &'a Loner,
    key: TenantsKey,
}

impl Drop for KeyWait<'_> {
    fn drop(&mut self) {
        let mut waited_for = self.loner.waited_for.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waited_for.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                waited_for.remove(&self.key);
            }
        }
    }
}

impl Stored {
    pub(super) fn of(job: NewJob, outcome: SubmitOutcome, created_at: Option<DateTime<Utc>>) -> Self {
        match outcome {
            SubmitOutcome::Created(_) => Self::Created { job: Box::new(job), created_at },
            SubmitOutcome::Existing(id) => Self::Existing(id),
            SubmitOutcome::Conflict(conflict) => Self::Conflict(conflict),
        }
    }
}
