//! Sees to the breakers: writes down what this worker met, claims trials, and asks free probes. What can't be written is
//! tried again; meanwhile it counts here.

use std::{sync::Arc, time::Duration};

use sluice_provider::ProviderError;
use sluice_store::StoreError;
use tokio::time::{sleep, timeout};

use crate::{
    breakers::{Errand, PROBE_INTERVAL, Word},
    clock,
    core::Core,
    incarnation::bounded,
};

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);
/// How long a silent upstream may take to answer a probe. With the silence before it, it is found out within five seconds.
const SILENT_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Keeps the breakers until the worker is over.
pub(crate) async fn run(core: Arc<Core>) {
    let mut changes_seen = 0;
    loop {
        tokio::select! {
            () = core.signals.ended.cancelled() => return,
            () = core.breakers.stirred.notified() => {}
            () = sleep(TICK) => {}
        }
        let changes = core.breakers.changes();
        if changes != changes_seen {
            changes_seen = changes;
            for (upstream, is_open) in core.breakers.standing() {
                core.metrics.breaker_is_open(&upstream, is_open);
            }
        }
        // One without an answer is looked after by the next look.
        for (upstream, errand) in errands(&core) {
            if let Err(error) = see_to(&core, &upstream, errand).await {
                tracing::debug!(%error, upstream, "a breaker could not be seen to; it is tried again");
            }
        }
    }
}

fn errands(core: &Core) -> Vec<(String, Errand)> {
    let routing = core.routing.load();
    let usual = |upstream: &str| routing.reachable(upstream).and_then(|reachable| reachable.pace.slowest());
    let errands = core.breakers.errands(usual);
    // Of an upstream that the configuration doesn't have any more, only words are left to be written.
    let is_ours = |upstream: &str| routing.reachable(upstream).is_some();
    errands
        .into_iter()
        .filter(|(upstream, errand)| matches!(errand, Errand::Write(_)) || is_ours(upstream))
        .collect()
}

async fn see_to(core: &Arc<Core>, upstream: &str, errand: Errand) -> Result<(), StoreError> {
    match errand {
        Errand::Write(word) => write(core, upstream, &word).await,
        Errand::ClaimTrial => claim(core, upstream, false).await,
        Errand::Probe => {
            if bounded(core.store.breaker_claim_probe(upstream, PROBE_INTERVAL)).await? {
                let (core, upstream) = (Arc::clone(core), upstream.to_owned());
                tokio::spawn(async move { probe(&core, &upstream).await });
            }
            Ok(())
        }
        Errand::ProbeSilent => {
            let (core, upstream) = (Arc::clone(core), upstream.to_owned());
            tokio::spawn(async move { probe_silent(&core, &upstream).await });
            Ok(())
        }
    }
}

async fn write(core: &Core, upstream: &str, word: &Word) -> Result<(), StoreError> {
    let (store, id, policy) = (&core.store, core.incarnation.id(), core.breakers.policy());
    // A word that comes too late (somebody else closed it, another has the trial) changes nothing.
    let _ = match word {
        Word::Opened { reason } => {
            bounded(store.breaker_open(upstream, reason, policy.reset_timeout)).await?
        }
        Word::Closed => bounded(store.breaker_close(upstream)).await?,
        Word::TrialFailed { failed_trials } => {
            let probes_in = policy.probes_distrusted_for(*failed_trials);
            bounded(store.breaker_trial_failed(upstream, id, policy.reset_timeout, probes_in)).await?
        }
        Word::TrialGivenBack => bounded(store.breaker_trial_given_back(upstream, id)).await?,
    };
    core.breakers.written(upstream, word, clock::since_boot());
    core.signals.changed.notify_one();
    Ok(())
}

async fn claim(core: &Core, upstream: &str, is_probed: bool) -> Result<(), StoreError> {
    let patience = core.breakers.policy().reset_timeout.max(PROBE_INTERVAL);
    let claiming = core.store.breaker_claim_trial(upstream, core.incarnation.id(), patience, is_probed);
    let is_ours = bounded(claiming).await?;
    core.breakers.trial_claimed(upstream, is_ours);
    if is_ours {
        core.signals.changed.notify_one();
    }
    Ok(())
}

/// Asks an upstream whose breaker is open. Any answer but the server's own failure is a good one: not all have a list of
/// models.
async fn probe(core: &Core, upstream: &str) {
    let Some(reachable) = core.routing.load().reachable(upstream) else { return };
    let is_good = match reachable.client.models().await {
        Ok(_) | Err(ProviderError::Malformed { .. }) => true,
        Err(ProviderError::Refused { status_code, .. }) => status_code < 500,
        Err(_) => false,
    };
    core.breakers.probed(upstream);
    if is_good && let Err(error) = claim(core, upstream, true).await {
        tracing::debug!(%error, upstream, "a trial could not be claimed; it is tried again");
    }
}

async fn probe_silent(core: &Core, upstream: &str) {
    let Some(reachable) = core.routing.load().reachable(upstream) else {
        return core.breakers.probed(upstream);
    };
    let answer = timeout(SILENT_PROBE_TIMEOUT, reachable.client.models()).await;
    let is_there = !matches!(answer, Err(_) | Ok(Err(ProviderError::Unreachable { .. })));
    if core.breakers.silent_probed(upstream, is_there) {
        core.signals.changed.notify_one();
    }
}
