//! Cancelling and releasing jobs.

use sluice_domain::{JobId, JobState, TenantName};

use crate::{CrashPoint, Store, StoreError, crash_point};

/// What became of a cancel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CancelOutcome {
    /// It is cancelled now.
    Cancelled,
    /// It was cancelled before.
    AlreadyCancelled,
    /// It had ended otherwise.
    AlreadyEnded(JobState),
    /// There is no such job of this tenant.
    Unknown,
    /// It moved at each of several looks; try again.
    Busy,
}

/// What became of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReleaseOutcome {
    /// It is queued again.
    Released,
    /// It was not held.
    NotHeld,
    /// There is no such job of this tenant.
    Unknown,
}

impl Store {
    /// Cancels a job wherever it stands. A running one ends at once; its worker lets go of the call when it hears.
    pub async fn job_cancel(&self, tenant: &TenantName, job: JobId) -> Result<CancelOutcome, StoreError> {
        let answer = sqlx::query_scalar!(
            r#"-- job_cancel
            SELECT sluice.cancel_job($1, $2) AS "answer!""#,
            tenant.as_str(),
            job.as_uuid(),
        )
        .fetch_one(&self.pool)
        .await?;
        crash_point(CrashPoint::Cancelled);
        Ok(match answer.as_str() {
            "cancelled" => CancelOutcome::Cancelled,
            "already_cancelled" => CancelOutcome::AlreadyCancelled,
            "succeeded" => CancelOutcome::AlreadyEnded(JobState::Succeeded),
            "failed" => CancelOutcome::AlreadyEnded(JobState::Failed),
            "unknown" => CancelOutcome::Unknown,
            _ => CancelOutcome::Busy,
        })
    }

    /// Lets a held job go on, its crashes forgiven.
    pub async fn job_release(&self, tenant: &TenantName, job: JobId) -> Result<ReleaseOutcome, StoreError> {
        let answer = sqlx::query_scalar!(
            r#"-- job_release_if_held
            SELECT sluice.release_job($1, $2) AS "answer!""#,
            tenant.as_str(),
            job.as_uuid(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(match answer.as_str() {
            "queued" => ReleaseOutcome::Released,
            "unknown" => ReleaseOutcome::Unknown,
            _ => ReleaseOutcome::NotHeld,
        })
    }
}
