//! Stray leases: the database counts them as ours, and we never heard of them, since the answer of the lease call was
//! lost. The beat would keep them alive for ever.
//!
//! The lease loop itself looks for them, between its lease calls: so no lease can be on its way while it looks, and
//! whatever the database lists and we don't hold is stray, however young it is. A statement whose answer nobody awaits
//! any more may still commit later: hence a further look once a TTL.
//!
//! A stray whose call was made comes from a fail-over that took its settle back (`called`). It ends as lost.

use std::time::Duration;

use sluice_store::StoreError;
use tokio::time::Instant;

use crate::{core::Core, incarnation::bounded};

/// When to look next.
#[derive(Debug)]
pub(crate) struct StrayWatch {
    interval: Duration,
    next: Instant,
}

impl StrayWatch {
    /// Looks once every `interval`.
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, next: Instant::now() + interval }
    }

    /// A lease call failed or was dropped: look at the next chance.
    pub(crate) fn soon(&mut self) {
        self.next = Instant::now();
    }

    /// Looks, if it is time.
    pub(crate) async fn look_if_due(&mut self, core: &Core) -> Result<(), StoreError> {
        if Instant::now() < self.next {
            return Ok(());
        }
        let found = hand_back_strays(core).await?;
        self.next = Instant::now() + self.interval;
        if found > 0 {
            tracing::warn!(leases = found, "ended leases that the database knew of and this worker did not");
        }
        Ok(())
    }
}

/// Ends all leases of the present incarnation that we don't hold; says how many there were.
pub(crate) async fn hand_back_strays(core: &Core) -> Result<u32, StoreError> {
    let incarnation = core.incarnation.id();
    let mut strays = bounded(core.store.leases_older_than(incarnation, Duration::ZERO)).await?;
    // Looked up after the list was read: what was settled in between is gone from both.
    strays.retain(|(_, lease)| !core.held.holds(*lease));
    let (called, unsent): (Vec<_>, Vec<_>) =
        strays.into_iter().partition(|(_, lease)| core.called.knows(*lease));
    let mut found = 0;
    if !called.is_empty() {
        let lost = bounded(core.store.leases_lose(&called)).await?;
        if lost > 0 {
            tracing::error!(
                leases = lost,
                "the database has lost what it had acknowledged of attempts; they count as lost, since their calls \
                 were made"
            );
        }
        found += lost;
    }
    if !unsent.is_empty() {
        found += bounded(core.store.lease_hand_back_many(incarnation, &unsent)).await?.moved;
    }
    Ok(found)
}
