//! Calls whose waiting client went away: noted, taken by who asks again, forgotten.

use std::time::Duration;

use sluice_domain::JobId;

use crate::{Store, StoreError};

/// SHA-256 over all that a repeated request has in common with the first.
pub type CallFingerprint = [u8; 32];

impl Store {
    /// Notes that the clients of these jobs went away.
    pub async fn left_calls_note(&self, left: &[(JobId, CallFingerprint)]) -> Result<(), StoreError> {
        let jobs: Vec<_> = left.iter().map(|(job, _)| job.as_uuid()).collect();
        let fingerprints: Vec<_> = left.iter().map(|(_, fingerprint)| fingerprint.as_slice()).collect();
        sqlx::query!(
            "-- left_call_note_many
            INSERT INTO sluice.left_calls (job_id, fingerprint, left_at)
            SELECT DISTINCT ON (l.job_id) l.job_id, l.fingerprint, clock_timestamp()
            FROM unnest($1::uuid[], $2::bytea[]) AS l(job_id, fingerprint)
            ON CONFLICT (job_id) DO UPDATE SET left_at = excluded.left_at",
            &jobs,
            &fingerprints as _,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The newest job with this fingerprint whose client went away within `window`. It is the caller's from here on:
    /// nobody else is told of it.
    pub async fn left_call_take(
        &self,
        fingerprint: &CallFingerprint,
        window: Duration,
    ) -> Result<Option<JobId>, StoreError> {
        let job = sqlx::query_scalar!(
            "-- left_call_take_newest
            DELETE FROM sluice.left_calls WHERE job_id = (
                SELECT l.job_id FROM sluice.left_calls l
                WHERE l.fingerprint = $1 AND l.left_at > clock_timestamp() - make_interval(secs => $2)
                ORDER BY l.job_id DESC LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING job_id",
            fingerprint.as_slice(),
            window.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(job.map(JobId::from_uuid))
    }

    /// Forgets calls whose clients went away longer than `window` ago, `limit` at most; says how many.
    pub async fn left_calls_forget(&self, window: Duration, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "-- left_call_forget_old
            DELETE FROM sluice.left_calls WHERE job_id IN (
                SELECT l.job_id FROM sluice.left_calls l
                WHERE l.left_at < clock_timestamp() - make_interval(secs => $1)
                ORDER BY l.left_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
            window.as_secs_f64(),
            i64::from(limit),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
