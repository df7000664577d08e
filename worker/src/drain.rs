//! How a worker ends, told in order.
//!
//! 1. It starts nothing more. What was leased and not begun goes back at once.
//! 2. Calls under way end by themselves, within the grace; their outcomes are written as ever.
//! 3. Those that don't are let go: sent with an unknown answer. That is written too.
//! 4. Leases that the database counts and we never heard of go back; the incarnation's row ends; the beat stops.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    WorkMode,
    core::{Core, Phase},
    incarnation::bounded,
    stray::hand_back_strays,
};

/// How long outcomes of calls that were let go may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Ends a worker whose lease loop has ended.
pub(crate) async fn finish(core: &Arc<Core>, mode: WorkMode) {
    core.advance(Phase::NotStarting);
    core.give_back_waiting();
    tokio::select! {
        () = core.reached(Phase::Draining) => {}
        () = core.held.emptied(), if mode == WorkMode::UntilIdle => {}
    }
    tokio::select! {
        () = core.held.emptied() => {}
        () = core.reached(Phase::Stopping) => let_go(core).await,
        () = sleep(core.timing.grace) => let_go(core).await,
    }
    if let Err(error) = end_incarnation(core).await {
        tracing::warn!(%error, "the worker's row could not be ended; it ends with its lease");
    }
    core.signals.ended.cancel();
}

async fn let_go(core: &Core) {
    let calls = core.in_flight();
    if calls > 0 {
        tracing::warn!(calls, "calls under way are let go of; their answers are not known");
    }
    core.held.stop_all(crate::lease::StopReason::WorkerEnds);
    if tokio::time::timeout(LAST_WORDS, core.held.emptied()).await.is_err() {
        tracing::error!(
            attempts = core.held.count(),
            "outcomes could not be written before the worker ended"
        );
    }
}

async fn end_incarnation(core: &Core) -> Result<(), sluice_store::StoreError> {
    hand_back_strays(core).await?;
    let lost = bounded(core.store.incarnation_end(core.incarnation.id())).await?;
    if lost > 0 {
        tracing::warn!(leases = lost, "leases were left at the end");
    }
    Ok(())
}
