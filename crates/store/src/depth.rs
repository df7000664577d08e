//! How much stands in the lines.

use std::time::Duration;

use chrono::{DateTime, Utc};

use sluice_domain::{QueueName, TenantName};

use crate::{Store, StoreError};

/// A queue as people see it.
#[derive(Clone, PartialEq, Debug)]
pub struct QueueDepth {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its name.
    pub name: QueueName,
    /// Jobs that could run now.
    pub ready: u64,
    /// Jobs that wait for a time.
    pub scheduled: u64,
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait for a person.
    pub held: u64,
    /// How long the oldest job that can run now could have run.
    pub oldest_age: Option<Duration>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The queues that hold live jobs or are paused, by tenant and name. Counts every waiting row: for people and
    /// for scrapes, not for loops.
    pub async fn queue_depths(&self, tenant: Option<&TenantName>) -> Result<Vec<QueueDepth>, StoreError> {
        let rows = sqlx::query!(
            r#"-- queue_depths
            WITH counted AS (
                SELECT r.lane_id, count(*) FILTER (WHERE r.key <= clock_timestamp()) AS ready,
                       count(*) FILTER (WHERE r.key > clock_timestamp()) AS scheduled,
                       0::bigint AS running, 0::bigint AS held, min(r.key) AS oldest, min(r.job_id::text) AS sample
                FROM sluice.ready r GROUP BY r.lane_id
                UNION ALL
                SELECT r.lane_id, 0, 0, count(*), 0, NULL, min(r.job_id::text) FROM sluice.running r GROUP BY r.lane_id
                UNION ALL
                SELECT h.lane_id, 0, 0, 0, count(*), NULL, min(h.job_id::text) FROM sluice.held h GROUP BY h.lane_id
            ), by_lane AS (
                SELECT c.lane_id, sum(c.ready) AS ready, sum(c.scheduled) AS scheduled, sum(c.running) AS running,
                       sum(c.held) AS held, min(c.oldest) AS oldest, min(c.sample)::uuid AS sample
                FROM counted c GROUP BY c.lane_id
            ), named AS (
                SELECT j.tenant, j.queue AS name, b.*
                FROM by_lane b
                CROSS JOIN LATERAL (SELECT j.tenant, j.queue FROM sluice.jobs j WHERE j.id = b.sample LIMIT 1) j
                UNION ALL
                SELECT q.tenant, q.name, NULL, 0, 0, 0, 0, NULL, NULL FROM sluice.queues q
                WHERE q.paused_at IS NOT NULL
            )
            SELECT n.tenant AS "tenant!", n.name AS "name!", sum(n.ready)::bigint AS "ready!",
                   sum(n.scheduled)::bigint AS "scheduled!", sum(n.running)::bigint AS "running!",
                   sum(n.held)::bigint AS "held!",
                   (extract(epoch FROM clock_timestamp() - min(n.oldest)) * 1000)::bigint AS oldest_age_ms,
                   max(q.paused_at) AS paused_at
            FROM named n
            LEFT JOIN sluice.queues q ON q.tenant = n.tenant AND q.name = n.name
            WHERE $1::text IS NULL OR n.tenant = $1
            GROUP BY n.tenant, n.name ORDER BY n.tenant, n.name LIMIT 10000"#,
            tenant.map(TenantName::as_str),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| QueueDepth {
                tenant: TenantName::from_stored(row.tenant),
                name: QueueName::from_stored(row.name),
                ready: row.ready as u64,
                scheduled: row.scheduled as u64,
                running: row.running as u64,
                held: row.held as u64,
                oldest_age: row
                    .oldest_age_ms
                    .filter(|ms| *ms >= 0)
                    .map(|ms| Duration::from_millis(ms as u64)),
                paused_at: row.paused_at,
            })
            .collect())
    }
}
