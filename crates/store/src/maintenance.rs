//! What the maintenance loops do. Each statement can be run by any number of schedulers at once.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{Store, StoreError};

/// What a reaper brings to a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReapRequest {
    /// How old a beat may be.
    pub ttl: Duration,
    /// The database time and postmaster start that it expects, by its own monotonic clock since the last scan; `None`
    /// while the brake holds: then nobody is marked dead.
    pub expected: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// What a scan did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reaped {
    /// The database time of the scan.
    pub database_now: DateTime<Utc>,
    /// When the server's postmaster started.
    pub postmaster_start: DateTime<Utc>,
    /// Incarnations that were marked dead.
    pub marked: u32,
    /// Leases that ended.
    pub leases: u32,
}

impl Store {
    /// One scan: marks incarnations dead whose beat is too old, and ends the leases of the dead, a thousand of each at
    /// most.
    pub async fn reap(&self, request: ReapRequest) -> Result<Reaped, StoreError> {
        let row = sqlx::query!(
            r#"-- incarnation_reap
            SELECT database_now AS "database_now!", postmaster_start AS "postmaster_start!", marked AS "marked!",
                   leases AS "leases!"
            FROM sluice.reap(make_interval(secs => $1), $2, $3, $4, 1000)"#,
            request.ttl.as_secs_f64(),
            request.expected.is_some(),
            request.expected.map(|(now, _)| now),
            request.expected.map(|(_, start)| start),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Reaped {
            database_now: row.database_now,
            postmaster_start: row.postmaster_start,
            marked: row.marked as u32,
            leases: row.leases as u32,
        })
    }

    /// Fails queued and held jobs whose deadline has passed, `limit` of each at most; says how many.
    pub async fn deadlines_end(&self, limit: u32) -> Result<u32, StoreError> {
        let ended = sqlx::query_scalar!(
            r#"-- job_end_past_deadline
            SELECT sluice.deadlines_end($1) AS "ended!""#,
            limit as i32,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ended as u32)
    }

    /// Makes this week's partitions and those of so many weeks ahead; says how many were made.
    pub async fn partitions_ensure(&self, weeks_ahead: u8) -> Result<u32, StoreError> {
        let made = sqlx::query_scalar!(
            r#"-- partitions_ensure
            SELECT sluice.partitions_ensure($1) AS "made!""#,
            i32::from(weeks_ahead),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(made as u32)
    }

    /// Drops the weeks that are older than the retention; says how many tables went.
    pub async fn partitions_drop(
        &self,
        keep_results: Duration,
        keep_ledger: Duration,
    ) -> Result<u32, StoreError> {
        let dropped = sqlx::query_scalar!(
            r#"-- partitions_drop
            SELECT sluice.partitions_drop(make_interval(secs => $1), make_interval(secs => $2)) AS "dropped!""#,
            keep_results.as_secs_f64(),
            keep_ledger.as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(dropped as u32)
    }

    /// Ends leases whose incarnation has no row any more, a thousand at most; says how many. Reads all leases.
    pub async fn orphans_expire(&self) -> Result<u32, StoreError> {
        let ended = sqlx::query_scalar!(
            r#"-- lease_expire_orphans
            SELECT sluice.expire_orphans(1000) AS "ended!""#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ended as u32)
    }

    /// Forgets incarnations that died over a day ago and left nothing behind; says how many.
    pub async fn incarnations_forget(&self) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "-- incarnation_forget_dead
            DELETE FROM sluice.incarnations i
            WHERE i.dead_at < clock_timestamp() - interval '1 day'
              AND NOT EXISTS (SELECT FROM sluice.running r WHERE r.incarnation_id = i.id)
              AND NOT EXISTS (SELECT FROM sluice.cancelled_leases c WHERE c.incarnation_id = i.id)"
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
