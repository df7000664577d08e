//! The board: which lanes have work, and what a lease is allowed to take from them.

use std::time::Duration;

use sluice_domain::{LaneId, ModelName, Priority, QueueName, TenantName};

use crate::{Store, StoreError};

/// A (lane, priority) pair that has queued jobs and whose queue is not paused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoardEntry {
    /// The lane.
    pub lane_id: LaneId,
    /// Whose it is.
    pub tenant: TenantName,
    /// Its queue.
    pub queue: QueueName,
    /// Its model.
    pub model: ModelName,
    /// The priority.
    pub priority: Priority,
    /// How long the oldest job that can run now could have run; `None`: none can.
    pub age: Option<Duration>,
    /// How long until the first job can run, where none can now.
    pub due_in: Option<Duration>,
}

/// What a lease may take from one (lane, priority) pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The lane.
    pub lane_id: LaneId,
    /// The priority.
    pub priority: Priority,
    /// So many jobs at most.
    pub limit: u32,
}

impl Store {
    /// Reads the board; `queues` and `tenant` narrow it to some.
    pub async fn board(
        &self,
        tenant: Option<&TenantName>,
        queues: Option<&[QueueName]>,
    ) -> Result<Vec<BoardEntry>, StoreError> {
        let queues: Option<Vec<String>> = queues.map(|names| names.iter().map(ToString::to_string).collect());
        let rows = sqlx::query!(
            r#"-- board_read
            SELECT lane_id AS "lane_id!", tenant AS "tenant!", queue AS "queue!", model AS "model!",
                   priority AS "priority!", age_ms, due_in_ms
            FROM sluice.board($1, $2)"#,
            tenant.map(TenantName::as_str),
            queues.as_deref() as _,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(BoardEntry {
                    lane_id: LaneId(row.lane_id),
                    tenant: TenantName::from_stored(row.tenant),
                    queue: QueueName::from_stored(row.queue),
                    model: ModelName::from_stored(row.model),
                    priority: Priority::new(i64::from(row.priority))
                        .map_err(|error| StoreError::UnknownValue(error.to_string()))?,
                    age: row.age_ms.map(|ms| Duration::from_millis(ms.max(0) as u64)),
                    due_in: row.due_in_ms.map(|ms| Duration::from_millis(ms.max(0) as u64)),
                })
            })
            .collect()
    }
}
