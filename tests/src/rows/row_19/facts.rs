//! What the database says of a job.

use anyhow::Result;
use sluice_domain::{JobId, JobState, LeaseId, Outcome};
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// How a generation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    pub generation: i32,
    pub state: JobState,
    pub lease: Option<LeaseId>,
    pub is_late: bool,
    pub body: Option<Vec<u8>>,
}

/// All of it, as of one moment at which nobody acts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// How its generations ended.
    pub done: Vec<Done>,
    /// Where it stands besides: place and generation.
    pub places: Vec<(JobState, i32)>,
    /// The lease that it runs under.
    pub running_under: Option<LeaseId>,
    /// Attempts that are on the ledger as begun.
    pub begun: Vec<LeaseId>,
    /// Attempts that have ended, with their outcome.
    pub ended: Vec<(LeaseId, Outcome)>,
    /// Late answers.
    pub late: Vec<(LeaseId, Vec<u8>)>,
    /// Slots that are still taken by cancelled leases.
    pub slots_taken: i64,
}

impl Facts {
    /// Reads them.
    pub async fn of(pool: &PgPool, job: JobId) -> Result<Self> {
        let id = job.as_uuid();
        let done = sqlx::query(
            "SELECT generation, state::text, lease_id, is_late, body FROM sluice.done WHERE job_id = $1
             ORDER BY generation",
        )
        .bind(id)
        .fetch_all(pool)
        .await?;
        let places = sqlx::query(
            "SELECT 'queued', q.generation, NULL::uuid FROM sluice.queued q WHERE q.job_id = $1
             UNION ALL SELECT 'running', generation, lease_id FROM sluice.running WHERE job_id = $1
             UNION ALL SELECT 'held', generation, NULL FROM sluice.held WHERE job_id = $1",
        )
        .bind(id)
        .fetch_all(pool)
        .await?;
        let ended =
            sqlx::query("SELECT lease_id, outcome::text FROM sluice.attempts_ended WHERE job_id = $1")
                .bind(id)
                .fetch_all(pool)
                .await?;
        let begun: Vec<Uuid> =
            sqlx::query_scalar("SELECT lease_id FROM sluice.attempts_begun WHERE job_id = $1")
                .bind(id)
                .fetch_all(pool)
                .await?;
        let late = sqlx::query("SELECT lease_id, body FROM sluice.late_results WHERE job_id = $1")
            .bind(id)
            .fetch_all(pool)
            .await?;
        let slots_taken =
            sqlx::query_scalar("SELECT count(*) FROM sluice.cancelled_leases WHERE job_id = $1")
                .bind(id)
                .fetch_one(pool)
                .await?;
        let mut facts = Self {
            done: Vec::new(),
            places: Vec::new(),
            running_under: None,
            begun: begun.into_iter().map(LeaseId::from_uuid).collect(),
            ended: Vec::new(),
            late: Vec::new(),
            slots_taken,
        };
        for row in &done {
            facts.done.push(Done {
                generation: row.try_get(0)?,
                state: row.try_get::<String, _>(1)?.parse()?,
                lease: row.try_get::<Option<Uuid>, _>(2)?.map(LeaseId::from_uuid),
                is_late: row.try_get(3)?,
                body: row.try_get(4)?,
            });
        }
        for row in &places {
            facts.places.push((row.try_get::<String, _>(0)?.parse()?, row.try_get(1)?));
            let lease = row.try_get::<Option<Uuid>, _>(2)?.map(LeaseId::from_uuid);
            facts.running_under = facts.running_under.or(lease);
        }
        for row in &ended {
            let lease = LeaseId::from_uuid(row.try_get(0)?);
            facts.ended.push((lease, row.try_get::<String, _>(1)?.parse()?));
        }
        for row in &late {
            facts.late.push((LeaseId::from_uuid(row.try_get(0)?), row.try_get(1)?));
        }
        Ok(facts)
    }

    /// The newest generation that there is of it.
    pub fn generation(&self) -> i32 {
        let done = self.done.iter().map(|done| done.generation);
        done.chain(self.places.iter().map(|(_, generation)| *generation)).max().unwrap_or_default()
    }

    /// Whether a generation ended so.
    pub fn has_ended(&self, state: JobState) -> bool {
        self.done.iter().any(|done| done.state == state)
    }

    /// How often generations ended so.
    pub fn ends(&self, state: JobState) -> usize {
        self.done.iter().filter(|done| done.state == state).count()
    }

    /// The outcome of an attempt.
    pub fn outcome(&self, lease: LeaseId) -> Option<Outcome> {
        self.ended.iter().find(|(ended, _)| *ended == lease).map(|(_, outcome)| *outcome)
    }

    /// The end that a lease brought.
    pub fn end_by(&self, lease: LeaseId) -> Option<&Done> {
        self.done.iter().find(|done| done.lease == Some(lease))
    }
}
