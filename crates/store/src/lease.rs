//! Leasing jobs, and giving leases back that were not used.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use sluice_domain::{
    ApiPath, IncarnationId, JobId, LaneId, LeaseId, LeasedJob, ModelName, OnUnknown, Priority, QueueName,
    TenantName,
};
use uuid::Uuid;

use crate::{Grant, Store, StoreError};

/// The most jobs of one lease.
pub const MAX_LEASE_BATCH: u32 = 10_000;
/// Bodies that a lease itself answers with, in bytes for all its jobs. Its transaction ends when all of the answer has gone out,
/// so the answer has to fit what a connection takes while nobody reads. Larger bodies are read after it.
pub(crate) const LEASED_BODY_BYTES: i32 = 64 << 10;

impl Store {
    /// Leases at most `limit` jobs of the granted pairs, in the order of the grants, and never more than
    /// [`MAX_LEASE_BATCH`]; each stands on the *begun* half of the ledger by the same statement. A dead incarnation gets
    /// [`StoreError::IncarnationDead`].
    pub async fn lease_many(
        &self,
        incarnation: IncarnationId,
        grants: &[Grant],
        limit: u32,
    ) -> Result<Vec<LeasedJob>, StoreError> {
        let columns = GrantColumns::of(grants.iter());
        let rows = sqlx::query_as!(
            LeasedRow,
            r#"-- job_lease_many
            SELECT job_id AS "job_id!", lease_id AS "lease_id!", lane_id AS "lane_id!", generation AS "generation!",
                   lease_no AS "lease_no!", tries AS "tries!", crashes AS "crashes!", refusals AS "refusals!",
                   max_attempts, hold_on_unknown AS "hold_on_unknown!", priority AS "priority!",
                   tenant AS "tenant!", queue AS "queue!", model AS "model!", path AS "path!", deadline_in_ms,
                   waited_ms AS "waited_ms!", traceparent, body
            FROM sluice.lease($1, $2, $3, $4, $5::timestamptz[], $6::timestamptz[], $7::uuid[], $8)"#,
            incarnation.as_uuid(),
            &columns.lanes,
            &columns.priorities,
            &columns.limits,
            &columns.returned as _,
            &columns.fresh as _,
            &new_lease_ids(limit),
            LEASED_BODY_BYTES,
        )
        .fetch_all(&self.pool)
        .await?;
        let without = rows.iter().filter(|row| row.body.is_none()).map(|row| row.job_id).collect();
        let mut bodies = self.bodies(without).await?;
        rows.into_iter().map(|row| row.into_job(&mut bodies)).collect()
    }

    /// The bodies that a lease was too large for. Where this fails, the leases stay with the incarnation, as those do whose
    /// answer never arrived.
    pub(crate) async fn bodies(&self, jobs: Vec<Uuid>) -> Result<HashMap<Uuid, Vec<u8>>, StoreError> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query!(
            r#"-- job_list_bodies
            SELECT id AS "id!", body AS "body!" FROM sluice.job_bodies($1)"#,
            &jobs,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.body)).collect())
    }

    /// Gives back leases whose call was not begun: no try is spent and the jobs can run at once.
    pub async fn lease_hand_back_many(
        &self,
        incarnation: IncarnationId,
        leases: &[(JobId, LeaseId)],
    ) -> Result<HandedBack, StoreError> {
        let mut leases = leases.to_vec();
        leases.sort_unstable();
        let jobs: Vec<_> = leases.iter().map(|(job, _)| job.as_uuid()).collect();
        let ids: Vec<_> = leases.iter().map(|(_, lease)| lease.as_uuid()).collect();
        let row = sqlx::query!(
            r#"-- lease_hand_back_many
            SELECT moved AS "moved!", locked AS "locked!" FROM sluice.hand_back_unlocked($1, $2, $3)"#,
            incarnation.as_uuid(),
            &jobs,
            &ids,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(HandedBack {
            moved: row.moved as u32,
            locked: row.locked.into_iter().map(LeaseId::from_uuid).collect(),
        })
    }

    /// Ends leases as lost whose call may have been made, and of which nothing else is known any more: one crash more, and
    /// held where the job says so. A job that was cancelled meanwhile stays as it is. Says how many leases there were.
    pub async fn leases_lose(&self, leases: &[(JobId, LeaseId)]) -> Result<u32, StoreError> {
        let mut leases = leases.to_vec();
        leases.sort_unstable();
        let jobs: Vec<_> = leases.iter().map(|(job, _)| job.as_uuid()).collect();
        let ids: Vec<_> = leases.iter().map(|(_, lease)| lease.as_uuid()).collect();
        let lost = sqlx::query_scalar!(
            r#"-- lease_lose_many
            SELECT sluice.lose_leases($1, $2, sluice.submit_clock(), true)
                   + sluice.lose_cancelled($2, clock_timestamp()) AS "lost!""#,
            &jobs,
            &ids,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(lost as u32)
    }

    /// The leases that the database counts as this incarnation's and that are older than `age`: what a worker doesn't
    /// hold of them comes from a lease whose answer never arrived.
    pub async fn leases_older_than(
        &self,
        incarnation: IncarnationId,
        age: Duration,
    ) -> Result<Vec<(JobId, LeaseId)>, StoreError> {
        let rows = sqlx::query!(
            r#"-- lease_list_older_than
            SELECT l.job_id AS "job_id!", l.lease_id AS "lease_id!" FROM (
                SELECT r.job_id, r.lease_id, r.leased_at AS since FROM sluice.running r WHERE r.incarnation_id = $1
                UNION ALL
                SELECT c.job_id, c.lease_id, c.cancelled_at FROM sluice.cancelled_leases c WHERE c.incarnation_id = $1
            ) l
            -- Where all are meant, so are those that were leased before the clock was set back.
            WHERE $2::float8 = 0 OR l.since < clock_timestamp() - make_interval(secs => $2)
            ORDER BY l.job_id LIMIT 100000"#,
            incarnation.as_uuid(),
            age.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (JobId::from_uuid(row.job_id), LeaseId::from_uuid(row.lease_id)))
            .collect())
    }
}

/// What became of leases that were to be given back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HandedBack {
    /// So many were still the incarnation's and are given back.
    pub moved: u32,
    /// Still the incarnation's, and held by a transaction that has not ended, as by a cancel: try again.
    pub locked: Vec<LeaseId>,
}

/// Made here: a random number of the database costs as much as an index entry.
pub(crate) fn new_lease_ids(limit: u32) -> Vec<Uuid> {
    (0..limit.min(MAX_LEASE_BATCH)).map(|_| LeaseId::generate().as_uuid()).collect()
}

/// Grants as the statements take them.
pub(crate) struct GrantColumns {
    pub(crate) lanes: Vec<i64>,
    pub(crate) priorities: Vec<i16>,
    pub(crate) limits: Vec<i32>,
    pub(crate) returned: Vec<Option<DateTime<Utc>>>,
    pub(crate) fresh: Vec<Option<DateTime<Utc>>>,
}

impl GrantColumns {
    pub(crate) fn of<'a>(grants: impl Iterator<Item = &'a Grant> + Clone) -> Self {
        Self {
            lanes: grants.clone().map(|grant| grant.lane_id.0).collect(),
            priorities: grants.clone().map(|grant| i16::from(grant.priority.get())).collect(),
            limits: grants.clone().map(|grant| i32::try_from(grant.limit).unwrap_or(i32::MAX)).collect(),
            returned: grants.clone().map(|grant| grant.floors.returned).collect(),
            fresh: grants.map(|grant| grant.floors.fresh).collect(),
        }
    }
}

/// A leased job as the statements give it.
pub(crate) struct LeasedRow {
    pub(crate) job_id: Uuid,
    pub(crate) lease_id: Uuid,
    pub(crate) lane_id: i64,
    pub(crate) generation: i32,
    pub(crate) lease_no: i32,
    pub(crate) tries: i16,
    pub(crate) crashes: i16,
    pub(crate) refusals: i16,
    pub(crate) max_attempts: Option<i16>,
    pub(crate) hold_on_unknown: bool,
    pub(crate) priority: i16,
    pub(crate) tenant: String,
    pub(crate) queue: String,
    pub(crate) model: String,
    pub(crate) path: String,
    pub(crate) deadline_in_ms: Option<i64>,
    pub(crate) waited_ms: i64,
    pub(crate) traceparent: Option<String>,
    /// None: too large for the lease itself.
    pub(crate) body: Option<Vec<u8>>,
}

impl LeasedRow {
    /// The job; its body from `bodies` where the row has none.
    pub(crate) fn into_job(self, bodies: &mut HashMap<Uuid, Vec<u8>>) -> Result<LeasedJob, StoreError> {
        let body = self.body.or_else(|| bodies.remove(&self.job_id));
        let body =
            body.ok_or_else(|| StoreError::UnknownValue(format!("job {} has no body", self.job_id)))?;
        Ok(LeasedJob {
            job_id: JobId::from_uuid(self.job_id),
            lease_id: LeaseId::from_uuid(self.lease_id),
            lane_id: LaneId(self.lane_id),
            generation: self.generation as u32,
            lease_no: self.lease_no as u32,
            tries: self.tries as u16,
            crashes: self.crashes as u16,
            refusals: self.refusals as u16,
            max_attempts: self.max_attempts.map(|most| most as u16),
            on_unknown: if self.hold_on_unknown { OnUnknown::Hold } else { OnUnknown::Retry },
            priority: Priority::new(i64::from(self.priority))
                .map_err(|error| StoreError::UnknownValue(error.to_string()))?,
            tenant: TenantName::from_stored(self.tenant),
            queue: QueueName::from_stored(self.queue),
            model: ModelName::from_stored(self.model),
            path: ApiPath::from_stored(self.path),
            deadline_in: self.deadline_in_ms.map(|ms| Duration::from_millis(ms.max(0) as u64)),
            waited: Duration::from_millis(self.waited_ms.max(0) as u64),
            traceparent: self.traceparent,
            body,
        })
    }
}
