//! Settling what dead workers of this host left in their spools.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::group::{Group, MAX_GROUP, MAX_GROUP_BYTES};
use crate::{core::Core, spool::Place};

/// Between two looks for workers that died beside us, at most: a look reads a folder. It comes before the leases of one that
/// died end, so that what it left is not paid for again.
const LOOK: Duration = Duration::from_secs(15);

/// Between two looks of a worker that starts and waits for another one that took over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Takes over what is there, and comes back when the database has had its say on it. Before the first lease: the jobs of
/// these answers may be waiting again by now, and must not be paid for again. So it also waits for what another worker has
/// taken over, which may have started at the same time.
pub(crate) async fn take_over_first(core: &Arc<Core>) {
    if core.spool.base().is_none() {
        return;
    }
    let all = async {
        take_over_with_others(core).await;
        core.settler.backlog.adopted_heard().await;
    };
    // Not for ever: what takes so long may be one of them that can't be written, or the disk.
    if timeout(core.timing.lease_ttl, all).await.is_err() {
        tracing::warn!("outcomes of a dead worker still wait; this one begins to work meanwhile");
    }
}

async fn take_over_with_others(core: &Arc<Core>) {
    let mut is_first_look = true;
    loop {
        // In a task of its own: what is taken over is settled, too, if nobody waits for it any more.
        let worker = Arc::clone(core);
        let Ok(Others { are_at_it, may_be_at_it }) =
            tokio::spawn(async move { take_over(&worker).await }).await
        else {
            return;
        };
        // Who takes a folder this very moment looks like its owner until it has said so.
        let is_to_wait = are_at_it || (may_be_at_it && is_first_look);
        if !is_to_wait {
            return;
        }
        is_first_look = false;
        sleep(LOOK_AGAIN).await;
    }
}

/// Looks now and then, until the worker is over.
pub(crate) async fn take_over_now_and_then(core: Arc<Core>) {
    if core.spool.base().is_none() {
        return;
    }
    let rest = LOOK.min(core.timing.lease_ttl / 3);
    loop {
        tokio::select! {
            () = core.settler.closing.cancelled() => return,
            () = sleep(rest) => {}
        }
        tokio::select! {
            () = core.settler.closing.cancelled() => return,
            _ = take_over(&core) => {}
        }
    }
}

/// Whether others settle what dead workers left.
struct Others {
    are_at_it: bool,
    may_be_at_it: bool,
}

async fn take_over(core: &Arc<Core>) -> Others {
    let adopted = core.spool.adopt_dead().await;
    let others = Others { are_at_it: adopted.with_others > 0, may_be_at_it: adopted.with_owners > 0 };
    if !adopted.places.is_empty() {
        tracing::warn!(
            outcomes = adopted.places.len(),
            "a worker of this host died before it could write these outcomes; they are written now"
        );
        core.settler.backlog.push_adopted(groups_of(adopted.places));
    }
    others
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
