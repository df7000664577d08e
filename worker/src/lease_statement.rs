//! One lease statement: the one that the granted lanes need, and what it said of limits.

use std::{collections::HashSet, time::Duration};

use sluice_domain::{IncarnationId, LimitId};
use sluice_store::{Grant, LimitedGrant, LimitedLease, StoreError};
use tokio::time::Instant;

use crate::{core::Core, incarnation::bounded};

/// The most lanes of one lease with limits: it locks the limits of all lanes that it names.
const MOST_LANES: usize = 16;
/// How long lanes are left out whose limits the database doesn't know: the next beat tells of another configuration.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// What came, and how much was asked for.
pub(crate) struct Asked {
    pub(crate) lease: LimitedLease,
    pub(crate) wanted: usize,
}

impl Asked {
    /// Whether less came than there should have been: what the board showed is out of date.
    pub(crate) fn is_short(&self) -> bool {
        self.lease.jobs.len() < self.wanted && !self.heard_anything_else()
    }

    /// Whether there is another reason than that for what did not come.
    pub(crate) fn heard_anything_else(&self) -> bool {
        let lease = &self.lease;
        !lease.no_room.is_empty() || !lease.unknown.is_empty() || !lease.too_large.is_empty()
    }
}

/// Leases at most so many jobs. From lanes with limits only what can be sent at once.
pub(crate) async fn lease(
    core: &Core,
    incarnation: IncarnationId,
    mut grants: Vec<LimitedGrant>,
    wanted: usize,
) -> Result<Asked, StoreError> {
    if grants.iter().all(|limited| limited.limits.is_empty()) {
        let grants: Vec<Grant> = grants.into_iter().map(|limited| limited.grant).collect();
        let jobs = bounded(core.store.lease_many(incarnation, &grants, wanted as u32)).await?;
        return Ok(Asked { lease: LimitedLease { jobs, ..LimitedLease::default() }, wanted });
    }
    keep_first_lanes(&mut grants);
    let wanted = wanted.min(core.slots.free());
    let named: Vec<LimitId> = grants.iter().flat_map(|limited| limited.limits.iter().copied()).collect();
    let lease = bounded(core.store.lease_limited_many(incarnation, &grants, wanted as u32)).await?;
    let now = Instant::now();
    core.rooms.told(&named, &lease.no_room, lease.jobs.len(), now);
    if !lease.jobs.is_empty() {
        core.adaptive.note_full(lease.no_room.iter().map(|word| word.limit), now);
    }
    core.rooms.close(&lease.unknown, now + UNKNOWN_FOR);
    Ok(Asked { lease, wanted })
}

/// The plan stands in order, so what is left out is what comes last in it.
fn keep_first_lanes(grants: &mut Vec<LimitedGrant>) {
    let mut lanes = HashSet::new();
    grants.retain(|limited| {
        let lane = limited.grant.lane_id;
        lanes.contains(&lane) || (lanes.len() < MOST_LANES && lanes.insert(lane))
    });
}
