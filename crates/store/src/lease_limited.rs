//! Leasing from lanes that have limits: what is taken of the limits is taken by the statement that leases.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_domain::{IncarnationId, LeasedJob, LimitId};
use uuid::Uuid;

use crate::{
    Grant, Store, StoreError,
    lease::{GrantColumns, LEASED_BODY_BYTES, LeasedRow, new_lease_ids},
};

/// What a lease may take from one (lane, priority) pair, and which limits each of its jobs takes of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitedGrant {
    /// Where and how many.
    pub grant: Grant,
    /// All of them, or none: empty where the lane has no limit.
    pub limits: Arc<[LimitId]>,
}

/// What came of a lease from lanes with limits.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LimitedLease {
    /// Jobs that can be called, and hold what they need.
    pub jobs: Vec<LeasedJob>,
    /// Jobs that are larger than a whole limit. They hold nothing, and must not be called.
    pub too_large: Vec<TooLarge>,
    /// Limits without room now.
    pub no_room: Vec<NoRoom>,
    /// Limits that nobody has declared in this database. Nothing was leased that needs them.
    pub unknown: Vec<LimitId>,
    /// How long after the statement had come the limits were looked at: what was taken counts from then.
    pub opened_after: Duration,
}

/// A job that is larger than a whole limit.
#[derive(Clone, PartialEq, Debug)]
pub struct TooLarge {
    /// The job.
    pub job: LeasedJob,
    /// The limit.
    pub limit: LimitId,
    /// The tokens that it needs at the least.
    pub needed: u64,
}

/// A limit that has no room now, or not enough for who comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom {
    /// The limit.
    pub limit: LimitId,
    /// When some comes, if nothing comes back before; `None`: only what comes back makes room.
    pub room_in: Option<Duration>,
}

struct Row {
    job_id: Option<Uuid>,
    lease_id: Option<Uuid>,
    lane_id: Option<i64>,
    generation: Option<i32>,
    lease_no: Option<i32>,
    tries: Option<i16>,
    crashes: Option<i16>,
    refusals: Option<i16>,
    max_attempts: Option<i16>,
    hold_on_unknown: Option<bool>,
    priority: Option<i16>,
    tenant: Option<String>,
    queue: Option<String>,
    model: Option<String>,
    path: Option<String>,
    deadline_in_ms: Option<i64>,
    waited_ms: Option<i64>,
    traceparent: Option<String>,
    body: Option<Vec<u8>>,
    word: Option<String>,
    limit_id: Option<i64>,
    needed: Option<i64>,
    room_in_ms: Option<i64>,
    opened_after_ms: i64,
}

impl Store {
    /// Leases as [`Store::lease_many`] does, and no more than the limits leave: each job takes of all limits of its grant,
    /// or is not leased.
    pub async fn lease_limited_many(
        &self,
        incarnation: IncarnationId,
        grants: &[LimitedGrant],
        limit: u32,
    ) -> Result<LimitedLease, StoreError> {
        let columns = GrantColumns::of(grants.iter().map(|limited| &limited.grant));
        let limits: Vec<i64> =
            grants.iter().flat_map(|limited| limited.limits.iter().map(|id| id.0)).collect();
        // Places in `limits`, from 1, as arrays of the database are counted.
        let lasts: Vec<i32> = grants
            .iter()
            .scan(0, |last, limited| {
                *last += limited.limits.len() as i32;
                Some(*last)
            })
            .collect();
        let firsts: Vec<i32> =
            lasts.iter().zip(grants).map(|(last, limited)| last - limited.limits.len() as i32 + 1).collect();
        let rows = sqlx::query_as!(
            Row,
            r#"-- job_lease_limited_many
            SELECT job_id, lease_id, lane_id, generation, lease_no, tries, crashes, refusals, max_attempts,
                   hold_on_unknown, priority, tenant, queue, model, path, deadline_in_ms, waited_ms, traceparent, body,
                   word, limit_id, needed, room_in_ms, opened_after_ms AS "opened_after_ms!"
            FROM sluice.lease_limited($1, $2, $3, $4, $5::timestamptz[], $6::timestamptz[], $7, $8, $9, $10::uuid[],
                                      $11)"#,
            incarnation.as_uuid(),
            &columns.lanes,
            &columns.priorities,
            &columns.limits,
            &columns.returned as _,
            &columns.fresh as _,
            &firsts,
            &lasts,
            &limits,
            &new_lease_ids(limit),
            LEASED_BODY_BYTES,
        )
        .fetch_all(&self.pool)
        .await?;
        let without = rows.iter().filter(|row| row.body.is_none()).filter_map(|row| row.job_id).collect();
        let mut bodies = self.bodies(without).await?;
        let mut lease = LimitedLease::default();
        for row in rows {
            lease.note(row, &mut bodies)?;
        }
        Ok(lease)
    }
}

impl LimitedLease {
    fn note(&mut self, row: Row, bodies: &mut HashMap<Uuid, Vec<u8>>) -> Result<(), StoreError> {
        self.opened_after = Duration::from_millis(row.opened_after_ms.max(0) as u64);
        let (word, limit) = (row.word.clone(), row.limit_id.map(LimitId));
        let (needed, room_in_ms) = (row.needed, row.room_in_ms);
        match (word.as_deref(), limit, leased_row(row)) {
            (None, None, Some(job)) => self.jobs.push(job.into_job(bodies)?),
            (Some("too_large"), Some(limit), Some(job)) => {
                let needed = needed.unwrap_or_default().max(0) as u64;
                self.too_large.push(TooLarge { job: job.into_job(bodies)?, limit, needed });
            }
            (Some("no_room"), Some(limit), None) => {
                let room_in = room_in_ms.map(|ms| Duration::from_millis(ms.max(0) as u64));
                self.no_room.push(NoRoom { limit, room_in });
            }
            (Some("unknown"), Some(limit), None) => self.unknown.push(limit),
            _ => return Err(StoreError::UnknownValue(format!("word of a lease {word:?}"))),
        }
        Ok(())
    }
}

/// The job of a row; `None` where it is a word about a limit.
fn leased_row(row: Row) -> Option<LeasedRow> {
    Some(LeasedRow {
        job_id: row.job_id?,
        lease_id: row.lease_id?,
        lane_id: row.lane_id?,
        generation: row.generation?,
        lease_no: row.lease_no?,
        tries: row.tries?,
        crashes: row.crashes?,
        refusals: row.refusals?,
        max_attempts: row.max_attempts,
        hold_on_unknown: row.hold_on_unknown?,
        priority: row.priority?,
        tenant: row.tenant?,
        queue: row.queue?,
        model: row.model?,
        path: row.path?,
        deadline_in_ms: row.deadline_in_ms,
        waited_ms: row.waited_ms?,
        traceparent: row.traceparent,
        body: row.body,
    })
}
