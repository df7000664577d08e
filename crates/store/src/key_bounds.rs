//! What bounds how much is submitted with a key: its rate, and how much its tenant has waiting.

use std::{num::NonZeroU32, time::Duration};

use sluice_domain::{ApiKeyId, QueueName, TenantName};

use crate::{Store, StoreError};

/// What was taken of a key's rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// So many submits may be made now.
    pub granted: u32,
    /// After which time there is one more, if not all that was wanted was granted.
    pub wait: Duration,
}

impl Store {
    /// Takes up to `wanted` submits of a key's rate. All schedulers take of the same.
    pub async fn key_allowance_take(
        &self,
        key: ApiKeyId,
        per_minute: NonZeroU32,
        wanted: u32,
    ) -> Result<Taken, StoreError> {
        let row = sqlx::query!(
            r#"-- key_allowance_take
            SELECT granted AS "granted!", wait_ms AS "wait_ms!" FROM sluice.key_allowance_take($1, $2, $3)"#,
            key.as_uuid(),
            i32::try_from(per_minute.get()).unwrap_or(i32::MAX),
            i32::try_from(wanted).unwrap_or(i32::MAX),
        )
        .fetch_one(&self.pool)
        .await?;
        let wait = Duration::from_millis(row.wait_ms.max(0) as u64);
        Ok(Taken { granted: row.granted.max(0) as u32, wait })
    }

    /// How many jobs of a tenant wait, in some queues or in all. Counts no further than `most`.
    pub async fn waiting_count(
        &self,
        tenant: &TenantName,
        queues: Option<&[QueueName]>,
        most: u32,
    ) -> Result<u32, StoreError> {
        let queues: Option<Vec<&str>> = queues.map(|queues| queues.iter().map(QueueName::as_str).collect());
        let count = sqlx::query_scalar!(
            r#"-- waiting_count
            SELECT sluice.waiting_count($1, $2, $3) AS "count!""#,
            tenant.as_str(),
            queues.as_deref() as _,
            i32::try_from(most).unwrap_or(i32::MAX),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
