//! Gives back leases whose call was not begun, in groups: no try is spent and the jobs can run elsewhere at once.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use sluice_domain::{IncarnationId, JobId, LeaseId};
use sluice_store::{CrashPoint, crash_point};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{backoff::Backoff, core::Core, incarnation::bounded, lease::LeaseKey};

/// The most leases that one statement gives back.
const MAX_GROUP: usize = 1000;

/// What a transaction of somebody else holds, as a cancel that is not committed, is tried again after so long.
const LOCKED_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Gives back what comes in, until the worker is over.
pub(crate) async fn run(core: Arc<Core>, mut returns: mpsc::UnboundedReceiver<LeaseKey>) {
    let giving = async {
        // Nobody waits for locked ones, and they wait for no pause in what comes.
        let mut locked: Vec<LeaseKey> = Vec::new();
        let mut again_at = Instant::now();
        loop {
            let mut group = Vec::new();
            tokio::select! {
                biased;
                () = sleep_until(again_at), if !locked.is_empty() => {
                    group = mem::take(&mut locked);
                    again_at = Instant::now() + LOCKED_AGAIN_AFTER;
                }
                came = returns.recv_many(&mut group, MAX_GROUP) => {
                    if came == 0 {
                        return;
                    }
                }
            }
            locked.extend(give_back(&core, group).await);
        }
    };
    tokio::select! {
        () = core.signals.ended.cancelled() => {}
        () = giving => {}
    }
}

/// Tries until it is written, and answers with those that somebody holds locked. A lease is in hand until it is written, so
/// that nobody takes it for a stray.
async fn give_back(core: &Core, group: Vec<LeaseKey>) -> Vec<LeaseKey> {
    let mut by_incarnation: HashMap<IncarnationId, Vec<(JobId, LeaseId)>> = HashMap::new();
    for lease in group {
        by_incarnation.entry(lease.incarnation).or_default().push((lease.job, lease.lease));
    }
    let mut all_locked = Vec::new();
    for (incarnation, leases) in by_incarnation {
        let mut backoff = Backoff::up_to(Duration::from_secs(2));
        let locked: HashSet<LeaseId> = loop {
            match bounded(core.store.lease_hand_back_many(incarnation, &leases)).await {
                Ok(done) => break done.locked.into_iter().collect(),
                Err(error) => {
                    tracing::debug!(%error, leases = leases.len(), "leases could not be given back yet");
                    sleep(backoff.rest()).await;
                }
            }
        };
        crash_point(CrashPoint::HandedBack);
        let (left, gone): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|(_, lease)| locked.contains(lease));
        let gone: Vec<LeaseId> = gone.into_iter().map(|(_, lease)| lease).collect();
        core.let_go(&gone);
        all_locked.extend(left.into_iter().map(|(job, lease)| LeaseKey { incarnation, job, lease }));
    }
    core.ready.ring();
    all_locked
}
