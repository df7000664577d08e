//! The schedulers and workers of an installation.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use sluice_domain::{IncarnationId, JobId, LeaseId};
use sqlx::Row;
use uuid::Uuid;

use super::{Lab, until};
use crate::{
    facts,
    history::Attempt,
    processes::{Process, Start, free_port},
};

/// A scheduler process.
#[derive(Debug)]
pub struct Scheduler {
    /// The process.
    pub process: Process,
    /// Where it serves REST.
    pub url: String,
    /// Where it serves gRPC.
    pub grpc_url: String,
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    /// The process.
    pub process: Process,
    /// Its name in the database; no two of an installation have the same.
    pub name: String,
    /// Whether it was killed, and what it had in memory is lost.
    pub was_killed: bool,
}

impl Lab {
    /// Starts one more scheduler and waits until it is ready.
    pub async fn start_scheduler(&mut self) -> Result<()> {
        let at = self.spawn_scheduler(&[])?;
        self.scheduler_is_ready(at).await;
        Ok(())
    }

    /// Starts one more scheduler with further variables, which may end before it is ready. Gives its place.
    pub fn spawn_scheduler(&mut self, more: &[(&'static str, String)]) -> Result<usize> {
        let at = self.schedulers.len();
        let address = || format!("http://127.0.0.1:{}", free_port());
        let (url, grpc_url) = (address(), address());
        let process = self.scheduler_process(&url, &grpc_url, more)?;
        self.schedulers.push(Scheduler { process, url, grpc_url });
        Ok(at)
    }

    /// Starts a scheduler that has ended where it was, and waits until it is ready.
    pub async fn start_scheduler_again(&mut self, at: usize) -> Result<()> {
        let Scheduler { url, grpc_url, .. } = &self.schedulers[at];
        let process = self.scheduler_process(url, grpc_url, &[])?;
        self.schedulers[at].process = process;
        self.scheduler_is_ready(at).await;
        Ok(())
    }

    /// Waits until a scheduler is ready.
    ///
    /// # Panics
    ///
    /// When it ends before that.
    pub async fn scheduler_is_ready(&mut self, at: usize) {
        let Scheduler { process, url, .. } = &mut self.schedulers[at];
        process.wait_for_url(&format!("{url}/readyz")).await;
    }

    fn scheduler_process(
        &self,
        url: &str,
        grpc_url: &str,
        more: &[(&'static str, String)],
    ) -> Result<Process> {
        // Those that were started before may be gone; their logs stay.
        let names = (0..).map(|number| format!("scheduler-{number}"));
        let mut free = names.filter(|name| !self.folder.join(format!("{name}.log")).exists());
        let name = free.next().context("there is always one more name")?;
        let address = |url: &str| url.trim_start_matches("http://").to_owned();
        let mut variables = [self.variables.as_slice(), more].concat();
        variables.extend([("SLUICE_LISTEN", address(url)), ("SLUICE_GRPC_LISTEN", address(grpc_url))]);
        Process::start(&name, &self.folder, &["scheduler"], &variables)
    }

    /// Starts one more worker with that many slots, and waits for its first beat. Gives its place in `workers`.
    pub async fn start_worker(&mut self, slots: usize) -> Result<usize> {
        self.start_worker_as(slots, Start::default()).await
    }

    /// As [`Self::start_worker`], with what else is said: further arguments, variables, a launcher, where it logs to.
    pub async fn start_worker_as(&mut self, slots: usize, more: Start<'_>) -> Result<usize> {
        let at = self.workers.len();
        let name = format!("worker-{at}");
        let slots = slots.to_string();
        let mut arguments = vec!["worker", "--name", &name, "--concurrency", &slots];
        arguments.extend_from_slice(more.arguments);
        let variables = [self.variables.as_slice(), more.variables].concat();
        let start = Start { arguments: &arguments, variables: &variables, ..more };
        let process = Process::start_as(&name, &self.folder, &start)?;
        self.workers.push(Worker { process, name, was_killed: false });
        self.worker_lives(at).await?;
        Ok(at)
    }

    /// Waits until a worker has begun a life.
    pub async fn worker_lives(&self, at: usize) -> Result<()> {
        let name = &self.workers[at].name;
        until(&format!("{name} to begin"), Duration::from_mins(1), async || {
            Ok(!facts::incarnations(self.pool(), name).await?.is_empty())
        })
        .await
    }

    /// Kills a worker with SIGKILL, at once.
    pub async fn kill_worker(&mut self, at: usize) -> Result<()> {
        let worker = &mut self.workers[at];
        worker.was_killed = true;
        worker.process.kill().await
    }

    /// Removes a worker's lock file, so that its death is noticed by its beat alone, as on another host.
    pub async fn forget_lock_file(&self, at: usize) -> Result<()> {
        let paths: Vec<String> = sqlx::query_scalar(
            "SELECT lock_path FROM sluice.incarnations WHERE worker = $1 AND lock_path IS NOT NULL",
        )
        .bind(&self.workers[at].name)
        .fetch_all(self.pool())
        .await?;
        for path in paths {
            std::fs::remove_file(&path).with_context(|| format!("remove {path}"))?;
        }
        Ok(())
    }

    /// The leases that a worker holds, as the database has it.
    pub async fn leases_of(&self, at: usize) -> Result<Vec<(JobId, LeaseId)>> {
        let rows = sqlx::query(
            "SELECT r.job_id, r.lease_id FROM sluice.running r
             JOIN sluice.incarnations i ON i.id = r.incarnation_id WHERE i.worker = $1",
        )
        .bind(&self.workers[at].name)
        .fetch_all(self.pool())
        .await?;
        let ids = |row: &sqlx::postgres::PgRow| -> Result<(JobId, LeaseId)> {
            let (job, lease): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            Ok((JobId::from_uuid(job), LeaseId::from_uuid(lease)))
        };
        rows.iter().map(ids).collect()
    }

    /// Waits until a worker holds at least so many leases.
    pub async fn worker_holds(&self, at: usize, leases: usize) -> Result<()> {
        let what = format!("{} to hold {leases} leases", self.workers[at].name);
        until(&what, Duration::from_mins(2), async || Ok(self.leases_of(at).await?.len() >= leases)).await
    }

    /// All lives of workers that were killed.
    pub async fn killed(&self) -> Result<BTreeSet<IncarnationId>> {
        let mut killed = BTreeSet::new();
        for worker in self.workers.iter().filter(|worker| worker.was_killed) {
            killed.extend(facts::incarnations(self.pool(), &worker.name).await?);
        }
        Ok(killed)
    }

    /// All lives of a worker.
    pub async fn lives_of(&self, at: usize) -> Result<BTreeSet<IncarnationId>> {
        facts::incarnations(self.pool(), &self.workers[at].name).await
    }

    /// The ledger so far.
    pub async fn attempts(&self) -> Result<Vec<Attempt>> {
        facts::attempts(self.pool()).await
    }

    /// Waits until a scheduler's reaper may mark workers dead: at its start, and after an outage, it brakes.
    pub async fn brake_is_released(&self, at: usize) -> Result<()> {
        let url = format!("{}/metrics", self.schedulers[at].url);
        let client = reqwest::Client::new();
        until("the brake to be released", self.timing.ttl * 3 + Duration::from_secs(20), async || {
            let page = client.get(&url).send().await?.text().await?;
            Ok(page.lines().any(|line| line.starts_with("sluice_brake_engaged") && line.ends_with(" 0")))
        })
        .await
    }

    /// Asks all workers that run to end, and waits until they have written everything and are gone.
    pub async fn drain_workers(&mut self, most: Duration) -> Result<()> {
        for worker in &mut self.workers {
            if worker.process.ended()?.is_none() {
                worker.process.ask_to_end()?;
            }
        }
        for worker in self.workers.iter_mut().filter(|worker| !worker.was_killed) {
            let ended = worker.process.wait_for_end(most).await.with_context(|| worker.name.clone())?;
            ensure!(ended.success(), "{} ended with {ended}: {}", worker.name, worker.process.log());
        }
        Ok(())
    }
}
