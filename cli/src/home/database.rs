//! Jobs in a database.

use std::{num::NonZeroU32, time::Duration};

use sluice_domain::{JobFilter, JobId, JobState, JobView, NewJob, SubmitOutcome, TenantName};
use sluice_scheduler::{DryRun, Gates, ManyReport, ShownJob, replay_matching as replay_all_matching};
use sluice_store::{Bodies, CancelOutcome, Doorbell, ReplayOutcome, Store};
use tokio::time::Instant;

use super::Fate;
use crate::{exit::CliError, jobs::no_such_job, pages::Pages};

/// How often it is looked for changes. Changes between two looks show in the number of attempts.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

fn tenant() -> TenantName {
    TenantName::default_tenant()
}

/// What stands before queued jobs now.
async fn gates(store: &Store) -> Result<Gates, CliError> {
    Ok(Gates::read(store, &tenant()).await?)
}

async fn view(store: &Store, id: JobId, bodies: Bodies) -> Result<JobView, CliError> {
    store.job(&tenant(), id, bodies).await?.ok_or_else(|| no_such_job(id))
}

pub(super) async fn job(store: &Store, id: JobId, bodies: Bodies) -> Result<ShownJob, CliError> {
    let job = view(store, id, bodies).await?;
    Ok(ShownJob::new(job, &gates(store).await?))
}

pub(super) async fn ended_job(store: &Store, id: JobId, most: Duration) -> Result<ShownJob, CliError> {
    let until = Instant::now().checked_add(most);
    loop {
        let state = view(store, id, Bodies::LeftOut).await?.state;
        let left = until.map_or(LOOK_INTERVAL, |until| until.saturating_duration_since(Instant::now()));
        if state.is_terminal() || left.is_zero() {
            return job(store, id, Bodies::Included).await;
        }
        tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
    }
}

pub(super) async fn jobs(store: &Store, filter: &JobFilter, limit: u64) -> Result<Vec<ShownJob>, CliError> {
    let tenant = tenant();
    let mut pages = Pages::new(store, &tenant, filter, limit);
    let gates = gates(store).await?;
    let mut found = Vec::new();
    while let Some(ids) = pages.next().await? {
        let jobs = store.jobs_by_id(&ids, Bodies::LeftOut).await?;
        found.extend(jobs.into_iter().map(|job| ShownJob::new(job, &gates)));
    }
    Ok(found)
}

/// A job that is looked at again and again.
pub struct Watch {
    store: Store,
    id: JobId,
    last: Option<JobView>,
}

impl Watch {
    pub(super) const fn new(store: Store, id: JobId) -> Self {
        Self { store, id, last: None }
    }

    pub(super) async fn next(&mut self) -> Result<Option<ShownJob>, CliError> {
        if self.last.as_ref().is_some_and(|job| job.state.is_terminal()) {
            return Ok(None);
        }
        loop {
            let job = view(&self.store, self.id, Bodies::LeftOut).await?;
            if self.last.as_ref() != Some(&job) {
                self.last = Some(job.clone());
                return Ok(Some(ShownJob::new(job, &gates(&self.store).await?)));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

pub(super) async fn submit(store: &Store, jobs: &[NewJob]) -> Result<Vec<Fate>, CliError> {
    let outcomes = match jobs {
        [job] => vec![store.submit(job).await?],
        jobs => store.submit_many(jobs).await?,
    };
    store.wake_sleepers().await?;
    let fate = |outcome| match outcome {
        SubmitOutcome::Created(id) => Fate::Created(id),
        SubmitOutcome::Existing(id) => Fate::Existing(id),
        SubmitOutcome::Conflict(conflict) => Fate::Conflict(conflict),
    };
    Ok(outcomes.into_iter().map(fate).collect())
}

pub(super) async fn cancel(store: &Store, id: JobId) -> Result<(), CliError> {
    match store.job_cancel(&tenant(), id).await? {
        CancelOutcome::Cancelled | CancelOutcome::AlreadyCancelled => {}
        CancelOutcome::AlreadyEnded(state) => {
            let how = if state == JobState::Failed { "failed" } else { "succeeded" };
            return Err(CliError::usage(format!("job {id} has ended already: it {how}")));
        }
        CancelOutcome::Unknown => return Err(no_such_job(id)),
        CancelOutcome::Busy => {
            return Err(CliError::unreachable(format!("job {id} kept moving; cancel it again")));
        }
    }
    store.ring(Doorbell::Cancelled).await?;
    store.ring(Doorbell::Ended).await?;
    Ok(())
}

pub(super) async fn replay(store: &Store, id: JobId) -> Result<(), CliError> {
    match store.job_replay_if_ended(&tenant(), id, Duration::ZERO).await? {
        ReplayOutcome::Queued => {}
        ReplayOutcome::NotEnded => return Err(not_ended(id)),
        ReplayOutcome::Unknown => return Err(no_such_job(id)),
    }
    store.wake_sleepers().await?;
    Ok(())
}

fn not_ended(id: JobId) -> CliError {
    CliError::usage(format!("job {id} has not ended; `sluice explain {id}` says where it stands"))
}

pub(super) async fn replay_matching(
    store: &Store,
    filter: &JobFilter,
    limit: Option<u64>,
    rate_per_minute: Option<NonZeroU32>,
    dry_run: DryRun,
) -> Result<ManyReport, CliError> {
    Ok(replay_all_matching(store, &tenant(), filter, limit, rate_per_minute, dry_run).await?)
}
