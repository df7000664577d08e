//! The first try of a group, and what follows from a verdict.

use std::{pin::pin, time::Duration};

use sluice_domain::{JobState, LeaseId, SettleVerdict, Settlement};
use sluice_store::{CrashPoint, StoreError, crash_point};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::group::{Group, Origin};
use crate::{SettledJob, core::Core, incarnation::bounded, spool::Place};

/// A statement that takes longer may be one that no answer will come to: meanwhile its group is brought to the spool.
const SLOW: Duration = Duration::from_secs(2);

/// Writes a group, or puts it off.
pub(super) async fn write(
    core: &Core,
    mut group: Group,
    settled: Option<&mpsc::UnboundedSender<Vec<SettledJob>>>,
) {
    let begun = Instant::now();
    let mut kept = None;
    let answer = {
        let mut statement = pin!(bounded(core.store.settle_many(&group.settlements)));
        let mut keeping = pin!(keep_if_slow(core, &group.settlements));
        tokio::select! {
            biased;
            // What is still being kept then is undone by the spool.
            answer = &mut statement => answer,
            () = core.settler.closing.cancelled() => Err(StoreError::timed_out()),
            places = &mut keeping => {
                kept = places;
                tokio::select! {
                    biased;
                    answer = statement => answer,
                    () = core.settler.closing.cancelled() => Err(StoreError::timed_out()),
                }
            }
        }
    };
    group.places = kept.unwrap_or_default();
    match answer {
        Ok(verdicts) => {
            note_back(core);
            core.metrics.settled(verdicts.len(), begun.elapsed());
            note_written(core, group, &verdicts, settled).await;
        }
        Err(error) => {
            note_failure(core, &error, group.len());
            put_off(core, group).await;
        }
    }
}

/// Makes settlements safe whose statement hangs.
async fn keep_if_slow(core: &Core, settlements: &[Settlement]) -> Option<Vec<Place>> {
    sleep(SLOW).await;
    note_away(core, "a settle takes long");
    core.spool.keep(settlements).await
}

/// Makes a group safe, and leaves it to the backlog.
pub(super) async fn put_off(core: &Core, mut group: Group) {
    group.bring_to_spool(core).await;
    group.leave_memory_if_scarce(core);
    core.settler.backlog.push_back(group);
}

/// Says what a failure means, once for all that wait.
pub(super) fn note_failure(core: &Core, error: &StoreError, attempts: usize) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    if refuses_these(error) {
        tracing::error!(%error, source, attempts, "the database refuses outcomes; they are tried again");
    } else if !core.settler.closing.is_cancelled() {
        note_away(core, &format!("{error}: {}", source.unwrap_or_default()));
    }
}

fn note_away(core: &Core, reason: &str) {
    if core.settler.note_away(true) {
        tracing::warn!(
            reason,
            spool = core.spool.base().map(|base| base.display().to_string()),
            "outcomes wait for the database"
        );
    }
}

/// The database took a settle.
pub(super) fn note_back(core: &Core) {
    if core.settler.note_away(false) {
        tracing::info!("the database takes outcomes again");
    }
}

/// Whether it is these settlements that the database refuses, so that others and parts of them may pass. Otherwise it
/// can't take any: it is away, full, or a standby by now.
pub(super) fn refuses_these(error: &StoreError) -> bool {
    if matches!(error, StoreError::OtherDatabase) {
        return false;
    }
    let state = error.sql_state().unwrap_or_default();
    // A row that somebody holds locked is about these.
    let is_about_all = state != "55P03"
        && ["08", "25", "40", "53", "55", "57", "58"].iter().any(|class| state.starts_with(class));
    !error.is_unavailable() && !is_about_all
}

/// The verdicts of a group are known: tells whoever waits for them.
pub(super) async fn note_written(
    core: &Core,
    mut group: Group,
    verdicts: &[SettleVerdict],
    settled: Option<&mpsc::UnboundedSender<Vec<SettledJob>>>,
) {
    crash_point(CrashPoint::Settled);
    if group.is_counted {
        core.settler.left_memory(&group.settlements);
    }
    let leases: Vec<LeaseId> = group.settlements.iter().map(|settlement| settlement.lease_id).collect();
    let mut has_ended = false;
    // What a dead worker did is no news of this one.
    let settled = settled.filter(|_| group.origin == Origin::Own);
    let mut told = settled.map(|_| Vec::with_capacity(verdicts.len()));
    for (settlement, verdict) in group.settlements.drain(..).zip(verdicts) {
        match verdict {
            SettleVerdict::LateAccepted | SettleVerdict::LateKept => core.metrics.late_result_kept(),
            SettleVerdict::Stale => core.metrics.stale_write_refused(),
            SettleVerdict::Settled | SettleVerdict::LetGo | SettleVerdict::AlreadySettled => {}
        }
        let job = SettledJob::of(settlement, *verdict);
        if let Some(delay) = job.retry_in {
            core.signals.note_due(Instant::now() + delay);
        }
        has_ended |= job.state.is_some_and(JobState::is_terminal);
        if let Some(told) = &mut told {
            told.push(job);
        }
    }
    if let (Some(settled), Some(told)) = (settled, told) {
        // Told before the leases are let go of, so that whoever sees nothing in flight has been told everything.
        let _ = settled.send(told);
    }
    core.let_go(&leases);
    if has_ended {
        core.ended.ring();
    }
    core.spool.done(group.places).await;
}
