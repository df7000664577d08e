//! How far a batch is: counts lines that have ended, and ends lines that are to be cancelled.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use sluice_domain::{Batch, JobId, TenantName};
use sluice_store::{CancelOutcome, Doorbell, Store, StoreError};
use tokio::time::Instant;

use super::claim::{Claim, Trouble, within};
use crate::wall_clock;

/// Lines of one look.
const PAGE: u32 = 5_000;
/// Statements under way at once.
const ABREAST: usize = 4;
/// Between two looks: from, and to.
const SHORTEST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(15);

/// What a look found.
pub(super) struct Counted {
    /// Lines that have not ended.
    pub(super) open: u64,
    /// How long it took.
    took: Duration,
}

impl Counted {
    /// How long a batch may rest: looking takes a twentieth of the time at most, and a batch of hours is not looked at each
    /// second.
    pub(super) fn rest(&self, batch: &Batch) -> Duration {
        let age = (wall_clock() - batch.times.created_at).to_std().unwrap_or_default();
        (self.took * 20).max(age / 50).clamp(SHORTEST, LONGEST)
    }
}

/// Counts the lines that have ended since the last look.
pub(super) async fn count(claim: &mut Claim) -> Result<Counted, Trouble> {
    let begun = Instant::now();
    let (mut open, mut after) = (0, 0);
    loop {
        claim.hold().await?;
        let counting = claim.store.batch_lines_count(claim.batch, claim.id, after, PAGE);
        let (seen, ended, last) = within(counting).await?.ok_or(Trouble::Over)?;
        open += u64::from(seen - ended);
        after = last;
        if seen < PAGE {
            return Ok(Counted { open, took: begun.elapsed() });
        }
    }
}

/// Cancels the jobs of all lines that have not ended.
pub(super) async fn cancel_open(claim: &mut Claim, batch: &Batch) -> Result<(), Trouble> {
    let mut after = 0;
    loop {
        claim.hold().await?;
        let page = within(claim.store.batch_lines_open(claim.batch, after, PAGE)).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        let cancel =
            |(line_no, job)| cancel_unless_unknown(claim.store.clone(), batch.tenant.clone(), line_no, job);
        let cancels: Vec<_> = page.into_iter().map(cancel).collect();
        let unknown: Vec<_> = stream::iter(cancels).buffer_unordered(ABREAST).try_collect().await?;
        let unknown: Vec<u32> = unknown.into_iter().flatten().collect();
        if !unknown.is_empty() {
            // Whoever named them was broken off before it stored their jobs.
            within(claim.store.batch_lines_forget(claim.batch, &unknown)).await?;
        }
    }
    if after > 0 {
        within(claim.store.ring(Doorbell::Cancelled)).await?;
        within(claim.store.ring(Doorbell::Ended)).await?;
    }
    Ok(())
}

/// Cancels the job of a line; gives the line where there is no such job.
async fn cancel_unless_unknown(
    store: Store,
    tenant: TenantName,
    line_no: u32,
    job: JobId,
) -> Result<Option<u32>, StoreError> {
    let outcome = within(store.job_cancel(&tenant, job)).await?;
    Ok((outcome == CancelOutcome::Unknown).then_some(line_no))
}
