//! Actions on many jobs at once, by filter. Jobs are looked up a page at a time from the newest to the oldest, and
//! each is acted upon by itself: whatever interrupts the action leaves whole jobs done and whole jobs not done.

use std::{num::NonZeroU32, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sluice_domain::{JobFilter, JobId, JobState, TenantName};
use sluice_store::{CancelOutcome, Doorbell, ReleaseOutcome, ReplayOutcome, Store, StoreError};
use utoipa::ToSchema;

const PAGE: u32 = 500;
/// Statements under way at once: little enough to leave the pool to others.
const ABREAST: usize = 4;

/// Whether jobs are only counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DryRun {
    /// Count what would be acted upon, and change nothing.
    Yes,
    /// Act.
    No,
}

/// What an action on many jobs did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct ManyReport {
    /// Jobs that the filter meant, up to the limit.
    pub matched: u64,
    /// Jobs that were changed; others had moved on by themselves.
    pub changed: u64,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
}

/// What is done to each job.
#[derive(Clone, Copy)]
enum Action {
    /// `spacing`: how far apart jobs become due.
    Replay {
        spacing: Duration,
    },
    Cancel,
    Release,
}

impl Action {
    /// Acts on one job; says whether it was changed. `place` counts the jobs of the action from 0.
    async fn act(self, store: Store, tenant: TenantName, place: u64, id: JobId) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Replay { spacing } => {
                let delay = spacing.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX));
                store.job_replay_if_ended(&tenant, id, delay).await? == ReplayOutcome::Queued
            }
            Self::Cancel => store.job_cancel(&tenant, id).await? == CancelOutcome::Cancelled,
            Self::Release => store.job_release(&tenant, id).await? == ReleaseOutcome::Released,
        })
    }
}

/// Starts ended jobs again as their next generation. A filter without a state means failed jobs: one that succeeded
/// is paid for again only where the filter says so. With `rate_per_minute` they become due one after the other.
pub async fn replay_matching(
    store: &Store,
    tenant: &TenantName,
    filter: &JobFilter,
    limit: Option<u64>,
    rate_per_minute: Option<NonZeroU32>,
    dry_run: DryRun,
) -> Result<ManyReport, StoreError> {
    let spacing = rate_per_minute.map_or(Duration::ZERO, |rate| Duration::from_mins(1) / rate.get());
    let filter = with_state(filter, JobState::Failed);
    let report = for_matching(store, tenant, &filter, limit, dry_run, Action::Replay { spacing }).await?;
    if report.changed > 0 {
        hint(store.wake_sleepers().await);
    }
    Ok(report)
}

/// Cancels jobs. A filter without a state means all that have not ended.
pub async fn cancel_matching(
    store: &Store,
    tenant: &TenantName,
    filter: &JobFilter,
    limit: Option<u64>,
    dry_run: DryRun,
) -> Result<ManyReport, StoreError> {
    let states = match filter.state {
        Some(state) => vec![state],
        // In this order, so that a job that is leased meanwhile is met again.
        None => vec![JobState::Queued, JobState::Held, JobState::Running],
    };
    let mut total = ManyReport { dry_run: dry_run == DryRun::Yes, ..ManyReport::default() };
    for state in states {
        let left = limit.map(|limit| limit.saturating_sub(total.matched));
        let filter = with_state(filter, state);
        let report = for_matching(store, tenant, &filter, left, dry_run, Action::Cancel).await?;
        total.matched += report.matched;
        total.changed += report.changed;
    }
    if total.changed > 0 {
        hint(store.ring(Doorbell::Cancelled).await);
        hint(store.ring(Doorbell::Ended).await);
    }
    Ok(total)
}

/// Lets held jobs go on. Jobs in other states are left alone.
pub async fn release_matching(
    store: &Store,
    tenant: &TenantName,
    filter: &JobFilter,
    limit: Option<u64>,
    dry_run: DryRun,
) -> Result<ManyReport, StoreError> {
    let filter = with_state(filter, JobState::Held);
    let report = for_matching(store, tenant, &filter, limit, dry_run, Action::Release).await?;
    if report.changed > 0 {
        hint(store.wake_sleepers().await);
    }
    Ok(report)
}

/// Acts on each job that a filter means, newest first. Each look begins below the last id of the page before, so that
/// it ends however jobs move meanwhile.
async fn for_matching(
    store: &Store,
    tenant: &TenantName,
    filter: &JobFilter,
    limit: Option<u64>,
    dry_run: DryRun,
    action: Action,
) -> Result<ManyReport, StoreError> {
    let mut report = ManyReport { dry_run: dry_run == DryRun::Yes, ..ManyReport::default() };
    let mut after = None;
    loop {
        let left =
            limit.map_or(u64::from(PAGE), |limit| limit.saturating_sub(report.matched).min(PAGE.into()));
        if left == 0 {
            return Ok(report);
        }
        let ids = store.job_ids_matching(tenant, filter, after, left as u32).await?;
        let Some(last) = ids.last() else { return Ok(report) };
        after = Some(*last);
        let first_place = report.matched;
        report.matched += ids.len() as u64;
        if dry_run == DryRun::No {
            let acts: Vec<_> = (first_place..)
                .zip(ids)
                .map(|(place, id)| action.act(store.clone(), tenant.clone(), place, id))
                .collect();
            let changed: Vec<bool> = stream::iter(acts).buffer_unordered(ABREAST).try_collect().await?;
            report.changed += changed.into_iter().filter(|changed| *changed).count() as u64;
        }
    }
}

fn with_state(filter: &JobFilter, default: JobState) -> JobFilter {
    JobFilter { state: Some(filter.state.unwrap_or(default)), ..filter.clone() }
}

/// A bell that can't be rung costs a poll interval and nothing else.
fn hint(rung: Result<(), StoreError>) {
    if let Err(error) = rung {
        tracing::debug!(error = %error, "a doorbell could not be rung; polling finds the work");
    }
}
