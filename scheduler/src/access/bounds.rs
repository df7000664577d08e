//! How much may be submitted with a key: its rate, and how much of its tenant may wait.
//!
//! The rate is a bucket in the database, of which all schedulers take: one statement for about a second's worth, so that
//! together they never let more through than the key may. How much waits is counted at most once a second, and
//! seldom enough that counting takes a tenth of the time; between two counts what was accepted here is added. So with
//! several schedulers a little more than the bound may come to wait.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use sluice_domain::ApiKeyId;
use sluice_store::Store;
use tokio::time::Instant;

use super::Caller;
use crate::server::{ApiError, READ_PATIENCE, asked};

/// A count is good for so long at least.
const COUNT_AGE: Duration = Duration::from_secs(1);
/// Counting may take up to a tenth of the time.
const RELIEF: u32 = 10;
/// After so long it is worth looking whether fewer jobs wait.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// Counts for all keys that have bounds.
pub(crate) struct Bounds {
    store: Store,
    keys: Mutex<HashMap<ApiKeyId, Arc<tokio::sync::Mutex<OfKey>>>>,
}

/// How much of what a caller wants to submit it may.
#[derive(Debug)]
pub(crate) struct Allowed {
    /// So many jobs.
    pub(crate) jobs: usize,
    /// What is said of the rest, if there is any.
    pub(crate) refusal: Option<ApiError>,
}

#[derive(Default)]
struct OfKey {
    /// Submits that were taken from the bucket and not made yet.
    left: u32,
    /// Until when the bucket is known to be empty.
    empty_until: Option<Instant>,
    waiting: Option<Waiting>,
}

struct Waiting {
    jobs: u32,
    good_until: Instant,
}

impl Bounds {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, keys: Mutex::default() }
    }

    /// How many of `wanted` jobs may be submitted now; they count as submitted from here on.
    pub(crate) async fn take(&self, caller: &Caller, wanted: usize) -> Result<Allowed, ApiError> {
        let (rate, most) = (caller.rights.submits_per_minute, caller.rights.max_waiting);
        let Some(key) = caller.key().filter(|_| rate.is_some() || most.is_some()) else {
            return Ok(Allowed { jobs: wanted, refusal: None });
        };
        let of_key = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keys.entry(key).or_default())
        };
        let mut of_key = of_key.lock().await;
        let mut allowed = u32::try_from(wanted).unwrap_or(u32::MAX);
        let mut refusal = None;
        if let Some(most) = most {
            let room = of_key.room(&self.store, caller, most).await?;
            if room < allowed {
                (allowed, refusal) = (room, Some(too_much_waits(most)));
            }
        }
        if let Some(rate) = rate {
            let (granted, wait) = of_key.take_of_rate(&self.store, key, rate, allowed).await?;
            if granted < allowed {
                (allowed, refusal) = (granted, Some(too_fast(rate, wait)));
            }
        }
        if let Some(waiting) = &mut of_key.waiting {
            waiting.jobs = waiting.jobs.saturating_add(allowed);
        }
        Ok(Allowed { jobs: allowed as usize, refusal })
    }
}

impl OfKey {
    /// How many more jobs may wait.
    async fn room(&mut self, store: &Store, caller: &Caller, most: NonZeroU32) -> Result<u32, ApiError> {
        let begun = Instant::now();
        let known = self.waiting.as_ref().filter(|waiting| begun < waiting.good_until);
        let jobs = if let Some(known) = known {
            known.jobs
        } else {
            let queues = caller.rights.queues.as_deref();
            let counting = store.waiting_count(&caller.tenant, queues, most.get());
            let jobs = asked(READ_PATIENCE, counting).await?;
            let good_until = Instant::now() + COUNT_AGE.max(begun.elapsed() * RELIEF);
            self.waiting = Some(Waiting { jobs, good_until });
            jobs
        };
        Ok(most.get().saturating_sub(jobs))
    }

    /// Takes of what is left here, and of the bucket where that is not enough; says after how long there is more.
    async fn take_of_rate(
        &mut self,
        store: &Store,
        key: ApiKeyId,
        rate: NonZeroU32,
        wanted: u32,
    ) -> Result<(u32, Duration), ApiError> {
        let now = Instant::now();
        let mut wait = self.empty_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if self.left < wanted && wait.is_zero() {
            let missing = (wanted - self.left).saturating_add(rate.get() / 60);
            let taken = asked(READ_PATIENCE, store.key_allowance_take(key, rate, missing)).await?;
            self.left = self.left.saturating_add(taken.granted);
            wait = taken.wait;
            self.empty_until = (taken.granted < missing).then(|| Instant::now() + wait);
        }
        let granted = self.left.min(wanted);
        self.left -= granted;
        Ok((granted, wait))
    }
}

fn too_fast(rate: NonZeroU32, wait: Duration) -> ApiError {
    let message = format!("this key may submit {rate} jobs a minute, and has submitted as many");
    refused("rate_limit_exceeded", message, wait)
}

fn too_much_waits(most: NonZeroU32) -> ApiError {
    let message = format!("with this key, no job is accepted while {most} or more wait");
    refused("too_many_waiting", message, ROOM_RETRY)
}

fn refused(code: &'static str, message: String, wait: Duration) -> ApiError {
    // Whole seconds, and none too few.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = u16::try_from(seconds).unwrap_or(u16::MAX).max(1);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(seconds)
}
