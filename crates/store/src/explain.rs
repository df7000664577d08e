//! Why a job is not running: what the database knows of it.

use chrono::{DateTime, Utc};

use sluice_domain::JobId;

use crate::{Store, StoreError};

/// How far jobs before it are counted.
const MOST_COUNTED: i64 = 10_000;

/// Where a queued job stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobStanding {
    /// Not before this time.
    pub run_at: DateTime<Utc>,
    /// Whether that time has come, by the database clock.
    pub is_due: bool,
    /// Since when its queue is paused.
    pub queue_paused_at: Option<DateTime<Utc>>,
    /// Jobs of its lane that are leased before it, counted up to ten thousand.
    pub jobs_before: u64,
    /// Workers that beat and take work.
    pub workers_alive: u64,
}

impl Store {
    /// Where a queued job stands; `None` where it is not queued.
    pub async fn job_standing(&self, job: JobId) -> Result<Option<JobStanding>, StoreError> {
        let row = sqlx::query!(
            r#"-- job_standing
            SELECT r.key AS "run_at!", r.key <= clock_timestamp() AS "is_due!", q.paused_at AS "paused_at?",
                   (SELECT count(*) FROM (
                        SELECT FROM sluice.ready o
                        WHERE o.lane_id = r.lane_id AND o.key <= clock_timestamp()
                          AND (o.priority > r.priority
                               OR (o.priority = r.priority AND (o.line, o.key, o.job_id) < (r.line, r.key, r.job_id)))
                        LIMIT $2) b) AS "jobs_before!",
                   (SELECT count(*) FROM sluice.incarnations i
                    WHERE i.dead_at IS NULL AND NOT i.is_draining) AS "workers_alive!"
            FROM sluice.queued r
            JOIN sluice.jobs j ON j.id = r.job_id
            LEFT JOIN sluice.queues q ON q.tenant = j.tenant AND q.name = j.queue
            WHERE r.job_id = $1"#,
            job.as_uuid(),
            MOST_COUNTED,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| JobStanding {
            run_at: row.run_at,
            is_due: row.is_due,
            queue_paused_at: row.paused_at,
            jobs_before: row.jobs_before as u64,
            workers_alive: row.workers_alive as u64,
        }))
    }
}
