//! Settling what dead workers of this host left in their spools.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::group::{Group, MAX_GROUP, MAX_GROUP_BYTES};
use crate::{core::Core, spool::Place};

/// Between two looks for workers that died beside us: a look reads a folder.
const LOOK: Duration = Duration::from_secs(15);

/// Takes over what is there, and comes back when the database has had its say on it. Before the first lease: the jobs of
/// these answers may be waiting again by now, and must not be paid for again.
pub(crate) async fn take_over_first(core: &Arc<Core>) {
    if core.spool.base().is_some() {
        take_over(core).await;
        // Not for ever: what takes so long may be one of them that can't be written.
        if timeout(core.timing.lease_ttl, core.settler.backlog.adopted_heard()).await.is_err() {
            tracing::warn!("outcomes of a dead worker still wait; this one begins to work meanwhile");
        }
    }
}

/// Looks now and then, until the worker is over.
pub(crate) async fn take_over_now_and_then(core: Arc<Core>) {
    if core.spool.base().is_none() {
        return;
    }
    loop {
        tokio::select! {
            () = core.settler.closing.cancelled() => return,
            () = sleep(LOOK) => take_over(&core).await,
        }
    }
}

async fn take_over(core: &Arc<Core>) {
    let adopted = core.spool.adopt_dead().await;
    if !adopted.places.is_empty() {
        tracing::warn!(
            outcomes = adopted.places.len(),
            "a worker of this host died before it could write these outcomes; they are written now"
        );
        core.settler.backlog.push_adopted(groups_of(adopted.places));
    }
}

fn groups_of(places: Vec<Place>) -> Vec<Group> {
    let mut groups = Vec::new();
    let (mut group, mut bytes) = (Vec::new(), 0);
    for place in places {
        if group.len() >= MAX_GROUP || bytes >= MAX_GROUP_BYTES as u64 {
            groups.push(Group::adopted(std::mem::take(&mut group)));
            bytes = 0;
        }
        bytes += place.bytes();
        group.push(place);
    }
    if !group.is_empty() {
        groups.push(Group::adopted(group));
    }
    groups
}
