//! Gives back leases whose call was not begun, in groups: no try is spent and the jobs can run elsewhere at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_domain::{IncarnationId, JobId, LeaseId};
use sluice_store::{CrashPoint, crash_point};
use tokio::{sync::mpsc, time::sleep};

use crate::{backoff::Backoff, core::Core, incarnation::bounded, lease::LeaseKey};

/// The most leases that one statement gives back.
const MAX_GROUP: usize = 1000;

/// Gives back what comes in, until the worker is over.
pub(crate) async fn run(core: Arc<Core>, mut returns: mpsc::UnboundedReceiver<LeaseKey>) {
    let giving = async {
        let mut group = Vec::with_capacity(MAX_GROUP);
        while returns.recv_many(&mut group, MAX_GROUP).await > 0 {
            give_back(&core, &mut group).await;
        }
    };
    tokio::select! {
        () = core.signals.ended.cancelled() => {}
        () = giving => {}
    }
}

/// Tries until it is written. A lease is in hand until then, so that nobody takes it for a stray.
async fn give_back(core: &Core, group: &mut Vec<LeaseKey>) {
    let mut by_incarnation: HashMap<IncarnationId, Vec<(JobId, LeaseId)>> = HashMap::new();
    for lease in group.drain(..) {
        by_incarnation.entry(lease.incarnation).or_default().push((lease.job, lease.lease));
    }
    for (incarnation, leases) in by_incarnation {
        let mut backoff = Backoff::up_to(Duration::from_secs(2));
        while let Err(error) = bounded(core.store.lease_hand_back_many(incarnation, &leases)).await {
            tracing::debug!(%error, leases = leases.len(), "leases could not be given back yet");
            sleep(backoff.rest()).await;
        }
        crash_point(CrashPoint::HandedBack);
        let leases: Vec<LeaseId> = leases.into_iter().map(|(_, lease)| lease).collect();
        core.let_go(&leases);
    }
    core.ready.ring();
}
