//! The end of a row: everything comes to rest, the three records are joined and counted.

use std::time::Duration;

use anyhow::{Context, Result};
use sluice_domain::JobId;
use uuid::Uuid;

use super::{Lab, Told, until};
use crate::{
    facts,
    history::{Figures, History, Place, Violation, check, figures},
};

/// A history after everything came to rest, with what is wrong about it.
#[derive(Clone, Debug)]
pub struct Reckoning {
    /// The joined records.
    pub history: History,
    /// What was counted.
    pub figures: Figures,
    /// Broken invariants.
    pub violations: Vec<Violation>,
}

impl Lab {
    /// Waits until no job waits or runs, has the workers write what they still hold and end, and joins the records.
    ///
    /// `seen_ends` are ends that were seen on the way. A job that does not come to rest within `most` is no error
    /// here: the checker names it.
    pub async fn reckon(&mut self, told: &Told, seen_ends: Vec<Place>, most: Duration) -> Result<Reckoning> {
        let rested = until("all jobs to come to rest", most, async || Ok(self.unrested().await? == 0)).await;
        if let Err(error) = rested {
            note(&format!("{error:#}"));
        }
        self.drain_workers(Duration::from_mins(1)).await?;
        let history = History {
            acknowledged: told.acknowledged.clone(),
            never_told: told.never_told.clone(),
            places: facts::places(self.pool()).await.context("read where jobs stand")?,
            seen_ends,
            attempts: self.attempts().await.context("read the ledger")?,
            late: facts::late_answers(self.pool()).await.context("read late answers")?,
            killed: self.killed().await?,
            calls: self.upstream.calls()?,
            taken_back: self.taken_back.clone(),
        };
        let violations = check(&history);
        Ok(Reckoning { figures: figures(&history), violations, history })
    }

    /// Ends that stand now, to be compared with later.
    pub async fn ends(&self) -> Result<Vec<Place>> {
        facts::ends(self.pool()).await
    }

    /// How many jobs wait or run.
    pub async fn unrested(&self) -> Result<i64> {
        let count = "SELECT (SELECT count(*) FROM sluice.ready) + (SELECT count(*) FROM sluice.running)";
        Ok(sqlx::query_scalar(count).fetch_one(self.pool()).await?)
    }

    /// The jobs that wait in the queue now.
    pub async fn waiting(&self) -> Result<Vec<JobId>> {
        let ids: Vec<Uuid> =
            sqlx::query_scalar("SELECT job_id FROM sluice.ready").fetch_all(self.pool()).await?;
        Ok(ids.into_iter().map(JobId::from_uuid).collect())
    }

    /// How many of these were never leased.
    pub async fn never_leased(&self, jobs: &[JobId]) -> Result<i64> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.as_uuid()).collect();
        let count = "SELECT count(*) FROM sluice.ready WHERE job_id = ANY ($1) AND lease_no = 0";
        Ok(sqlx::query_scalar(count).bind(ids).fetch_one(self.pool()).await?)
    }
}

/// For whoever watches a long row.
fn note(text: &str) {
    eprintln!("    {text}");
}
