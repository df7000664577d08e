//! Pausing and resuming queues.

use chrono::{DateTime, Utc};

use sluice_domain::{QueueName, TenantName};

use crate::{Store, StoreError};

impl Store {
    /// Pauses a queue of a tenant: nothing more is leased from it, what runs goes on. Pausing twice changes nothing.
    pub async fn queue_pause(&self, tenant: &TenantName, queue: &QueueName) -> Result<(), StoreError> {
        sqlx::query!(
            "-- queue_pause
            INSERT INTO sluice.queues AS q (tenant, name, paused_at) VALUES ($1, $2, clock_timestamp())
            ON CONFLICT (tenant, name) DO UPDATE SET paused_at = coalesce(q.paused_at, excluded.paused_at)",
            tenant.as_str(),
            queue.as_str(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Resumes a queue of a tenant. Says whether it was paused.
    pub async fn queue_resume(&self, tenant: &TenantName, queue: &QueueName) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- queue_resume_if_paused
            DELETE FROM sluice.queues WHERE tenant = $1 AND name = $2 AND paused_at IS NOT NULL",
            tenant.as_str(),
            queue.as_str(),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The database time, and the paused queues of a tenant with the time each was paused, by name.
    pub async fn queues_paused(
        &self,
        tenant: &TenantName,
    ) -> Result<(DateTime<Utc>, Vec<(QueueName, DateTime<Utc>)>), StoreError> {
        let rows = sqlx::query!(
            r#"-- queue_list_paused
            SELECT t.now AS "now!", q.name AS "name?", q.paused_at AS "paused_at?"
            FROM (SELECT clock_timestamp() AS now) t
            LEFT JOIN sluice.queues q ON q.tenant = $1 AND q.paused_at IS NOT NULL
            ORDER BY q.name LIMIT 10000"#,
            tenant.as_str(),
        )
        .fetch_all(&self.pool)
        .await?;
        let now = rows.first().map(|row| row.now);
        let now = now.ok_or_else(|| StoreError::UnknownValue("a clock without time".to_owned()))?;
        let paused =
            rows.into_iter().filter_map(|row| Some((QueueName::from_stored(row.name?), row.paused_at?)));
        Ok((now, paused.collect()))
    }
}
