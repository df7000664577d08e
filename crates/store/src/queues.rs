//! Pausing and resuming queues.

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
}
