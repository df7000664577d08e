//! How leases and workers stand, for people and for alerts.

use std::time::Duration;

use sluice_domain::HoldReason;

use crate::{Store, StoreError};

/// Leases, workers and held jobs at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseHealth {
    /// Leases of workers that are dead or silent, which nobody has taken from them yet.
    pub overdue: u64,
    /// For how long the oldest of them could have been taken.
    pub overdue_age: Duration,
    /// Workers whose last beat is younger than two fifths of the TTL: none was missed.
    pub fresh: u64,
    /// Workers whose last beat is older than that.
    pub late: u64,
    /// Workers whose last beat is older than the TTL, or lies ahead, and who are not marked dead.
    pub silent: u64,
    /// Held jobs by reason, where there are any.
    pub held: Vec<(HoldReason, u64)>,
}

impl Store {
    /// Counts them. Reads the leases of dead and silent workers, and all held jobs.
    pub async fn lease_health(&self, ttl: Duration) -> Result<LeaseHealth, StoreError> {
        let row = sqlx::query!(
            r#"-- lease_health
            WITH told AS (
                SELECT i.id, i.dead_at, i.beat_at + make_interval(secs => $1) AS ends_at,
                       extract(epoch FROM clock_timestamp() - i.beat_at) AS beat_age
                FROM sluice.incarnations i
            ), overdue AS (
                -- least passes over null.
                SELECT l.leases, clock_timestamp() - least(t.dead_at, t.ends_at) AS age
                FROM told t
                CROSS JOIN LATERAL (
                    SELECT count(*) AS leases FROM sluice.running r WHERE r.incarnation_id = t.id) l
                WHERE (t.dead_at IS NOT NULL OR t.beat_age > $1) AND l.leases > 0
            )
            SELECT (SELECT coalesce(sum(o.leases), 0)::bigint FROM overdue o) AS "overdue!",
                   (SELECT coalesce(extract(epoch FROM max(o.age)), 0)::float8 FROM overdue o) AS "overdue_age_s!",
                   count(*) FILTER (WHERE t.beat_age BETWEEN -$1 / 2 AND $1 * 0.4) AS "fresh!",
                   count(*) FILTER (WHERE t.beat_age > $1 * 0.4 AND t.beat_age <= $1) AS "late!",
                   count(*) FILTER (WHERE t.beat_age > $1 OR t.beat_age < -$1 / 2) AS "silent!",
                   ARRAY(SELECT h.reason::text FROM sluice.held h GROUP BY h.reason ORDER BY h.reason)
                       AS "reasons!",
                   ARRAY(SELECT count(*) FROM sluice.held h GROUP BY h.reason ORDER BY h.reason) AS "held!"
            FROM told t WHERE t.dead_at IS NULL"#,
            ttl.as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        let held = row.reasons.iter().zip(row.held);
        Ok(LeaseHealth {
            overdue: row.overdue as u64,
            overdue_age: Duration::try_from_secs_f64(row.overdue_age_s.max(0.0)).unwrap_or_default(),
            fresh: row.fresh as u64,
            late: row.late as u64,
            silent: row.silent as u64,
            // A reason that a newer program has written is left out.
            held: held.filter_map(|(word, jobs)| Some((word.parse().ok()?, jobs as u64))).collect(),
        })
    }
}
