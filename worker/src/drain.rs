//! How a worker ends, told in order.
//!
//! 1. It starts nothing more. What was leased and not begun goes back at once.
//! 2. Calls under way end by themselves, within the grace; their outcomes are written as ever.
//! 3. Those that don't are let go: sent with an unknown answer. That is written too.
//! 4. What can't be written goes to the spool, where it is not there already, and stays there for the next worker.
//! 5. Leases that the database counts and we never heard of go back; the incarnation's row ends; the beat stops. Where
//!    outcomes are left in the spool, the row ends with its lease instead: its jobs run again if nobody settles them
//!    until then.

use std::{sync::Arc, time::Duration};

use sluice_store::{CrashPoint, crash_point};
use tokio::time::sleep;

use crate::{
    Unwritten, WorkMode,
    core::{Core, Phase},
    incarnation::bounded,
    settle,
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
        // Nothing that is written now would go where it belongs.
        () = core.calls_ended(), if core.store.leads_elsewhere() => {}
        () = core.reached(Phase::Stopping) => let_go(core).await,
        () = sleep(core.timing.grace) => let_go(core).await,
    }
    let unwritten = settle::close(core).await;
    say(&unwritten);
    crash_point(CrashPoint::Drained);
    if unwritten == Unwritten::default()
        && !core.store.leads_elsewhere()
        && let Err(error) = end_incarnation(core).await
    {
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
    // What is not written by then is left to the spool.
    let _ = tokio::time::timeout(LAST_WORDS, core.held.emptied()).await;
}

fn say(unwritten: &Unwritten) {
    let folder = unwritten.folder.as_deref().unwrap_or(std::path::Path::new("")).display();
    if unwritten.in_spool > 0 {
        tracing::warn!(
            outcomes = unwritten.in_spool, spool = %folder,
            "outcomes could not be written before the worker ended; the next worker with this data directory writes them"
        );
    }
    if unwritten.lost > 0 {
        tracing::error!(
            outcomes = unwritten.lost,
            "outcomes could neither be written nor brought to the spool before the worker ended; they are lost"
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
