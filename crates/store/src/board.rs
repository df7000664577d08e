//! The board: which lanes have work, and what a lease is allowed to take from them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sluice_domain::{LaneId, LookBounds, LowestKeys, ModelName, PairFloors, Priority, QueueName, TenantName};

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
    /// Where to begin in its lines.
    pub floors: PairFloors,
}

/// What one look at the board showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoardLook {
    /// The pairs that may be leased from, with work now or later.
    pub entries: Vec<BoardEntry>,
    /// The lowest keys of all pairs: those that were named and those that were found, open to the caller or not.
    pub lowest: Vec<(LaneId, Priority, LowestKeys)>,
    /// Between which transactions the look was made; `None`: nothing waits.
    pub bounds: Option<LookBounds>,
}

impl Store {
    /// Reads the board from the beginning; `queues` and `tenant` narrow it to some.
    pub async fn board(
        &self,
        tenant: Option<&TenantName>,
        queues: Option<&[QueueName]>,
    ) -> Result<Vec<BoardEntry>, StoreError> {
        Ok(self.board_above(tenant, queues, &[]).await?.entries)
    }

    /// Reads the board above the floors of the `known` pairs, which stand in order; others are found and read from
    /// their beginning.
    pub async fn board_above(
        &self,
        tenant: Option<&TenantName>,
        queues: Option<&[QueueName]>,
        known: &[(LaneId, Priority, PairFloors)],
    ) -> Result<BoardLook, StoreError> {
        let queues: Option<Vec<String>> = queues.map(|names| names.iter().map(ToString::to_string).collect());
        let lanes: Vec<i64> = known.iter().map(|(lane, ..)| lane.0).collect();
        let priorities: Vec<i16> = known.iter().map(|(_, priority, _)| i16::from(priority.get())).collect();
        let returned: Vec<_> = known.iter().map(|(.., floors)| floors.returned).collect();
        let fresh: Vec<_> = known.iter().map(|(.., floors)| floors.fresh).collect();
        let rows = sqlx::query!(
            r#"-- board_read
            SELECT lane_id, priority AS "priority!", is_open AS "is_open!", tenant AS "tenant!",
                   queue AS "queue!", model AS "model!", returned_key, fresh_key, read_at AS "read_at!",
                   oldest_xid, next_xid
            FROM sluice.board($1, $2, $3, $4, $5, $6)"#,
            tenant.map(TenantName::as_str),
            queues.as_deref() as _,
            &lanes,
            &priorities,
            &returned as _,
            &fresh as _,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut look =
            BoardLook { entries: Vec::new(), lowest: Vec::with_capacity(rows.len()), bounds: None };
        for row in rows {
            let read_at = row.read_at;
            let Some(lane_id) = row.lane_id.map(LaneId) else {
                look.bounds = row.oldest_xid.zip(row.next_xid).map(|(oldest, next)| LookBounds {
                    read_at,
                    oldest_xid: oldest as u64,
                    next_xid: next as u64,
                });
                continue;
            };
            let priority = Priority::new(i64::from(row.priority))
                .map_err(|error| StoreError::UnknownValue(error.to_string()))?;
            let lowest = LowestKeys { returned: row.returned_key, fresh: row.fresh_key };
            look.lowest.push((lane_id, priority, lowest));
            // What is fresh can run: a key ahead of the clock was given before the clock was set back.
            let fresh = lowest.fresh.map(|key| key.min(read_at));
            let first = [lowest.returned, fresh].into_iter().flatten().min();
            if let Some(first) = first.filter(|_| row.is_open) {
                look.entries.push(BoardEntry {
                    lane_id,
                    tenant: TenantName::from_stored(row.tenant),
                    queue: QueueName::from_stored(row.queue),
                    model: ModelName::from_stored(row.model),
                    priority,
                    age: since(first, read_at),
                    due_in: since(read_at, first).filter(|wait| !wait.is_zero()),
                });
            }
        }
        Ok(look)
    }
}

/// From one time to a later one.
fn since(earlier: DateTime<Utc>, later: DateTime<Utc>) -> Option<Duration> {
    (later - earlier).to_std().ok()
}
