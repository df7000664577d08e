//! Replaying ended jobs.

use std::time::Duration;

use sluice_domain::{JobId, TenantName};

use crate::{CrashPoint, Store, StoreError, crash_point};

/// What became of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayOutcome {
    /// It is queued as its next generation.
    Queued,
    /// It has not ended.
    NotEnded,
    /// There is no such job of this tenant.
    Unknown,
}

impl Store {
    /// Starts an ended job again as its next generation, after `delay`.
    pub async fn job_replay_if_ended(
        &self,
        tenant: &TenantName,
        job: JobId,
        delay: Duration,
    ) -> Result<ReplayOutcome, StoreError> {
        let answer = sqlx::query_scalar!(
            r#"-- job_replay_if_ended
            SELECT sluice.replay_job($1, $2, make_interval(secs => $3)) AS "answer!""#,
            tenant.as_str(),
            job.as_uuid(),
            delay.as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        crash_point(CrashPoint::Replayed);
        Ok(match answer.as_str() {
            "queued" => ReplayOutcome::Queued,
            "unknown" => ReplayOutcome::Unknown,
            _ => ReplayOutcome::NotEnded,
        })
    }
}
