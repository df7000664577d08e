//! Stray leases: the database counts them as ours, and we never heard of them, since the answer of the lease call was
//! lost. The beat would keep them alive for ever.
//!
//! The lease loop itself looks for them, between its lease calls: so no lease can be on its way while it looks, and
//! whatever the database lists and we don't hold is stray, however young it is. A statement whose answer nobody awaits
//! any more may still commit later: hence a further look once a TTL.

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
            tracing::warn!(leases = found, "gave back leases whose lease call was never answered");
        }
        Ok(())
    }
}

/// Hands back all leases of the present incarnation that we don't hold; says how many there were.
pub(crate) async fn hand_back_strays(core: &Core) -> Result<u32, StoreError> {
    let incarnation = core.incarnation.id();
    let mut strays = bounded(core.store.leases_older_than(incarnation, Duration::ZERO)).await?;
    // Looked up after the list was read: what was settled in between is gone from both.
    strays.retain(|(_, lease)| !core.held.holds(*lease));
    if strays.is_empty() {
        return Ok(0);
    }
    bounded(core.store.lease_hand_back_many(incarnation, &strays)).await
}
