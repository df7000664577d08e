//! Where the jobs are that a command works on: in a database, or behind a server that is asked over gRPC (`--remote`).
//! Commands say what they want of jobs and print what they get; which of the two it is, only this module knows.
//!
//! Not here: what gRPC does not offer. Commands that need it take the database ([`Home::store`]).

mod database;
mod message;
mod server;

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use sluice_domain::{Conflict, JobFilter, JobId, NewJob};
use sluice_scheduler::{DryRun, ManyReport, ShownJob, wall_clock};
use sluice_store::{Bodies, MAX_SUBMIT_BATCH, Store};

use crate::exit::CliError;

pub use self::server::{Server, not_offered};

/// Where the jobs are.
#[derive(Debug)]
pub enum Home {
    /// In this database; the jobs are those of the default tenant.
    Database(Store),
    /// Behind this server; the jobs are those of the API key's tenant.
    Server(Server),
}

/// What became of one submitted job.
#[derive(Debug)]
pub enum Fate {
    /// It is a new job.
    Created(JobId),
    /// Its key was used before with the same content, by this job.
    Existing(JobId),
    /// Its key was used otherwise.
    Conflict(Conflict),
    /// The server refused it.
    Refused(CliError),
}

impl Home {
    /// The time by which spans such as `1h` are counted: the database's, or that of this machine.
    pub async fn now(&self) -> Result<DateTime<Utc>, CliError> {
        match self {
            Self::Database(store) => Ok(store.database_now().await?),
            Self::Server(_) => Ok(wall_clock()),
        }
    }

    /// One job. That there is none is an error.
    pub async fn job(&self, id: JobId, bodies: Bodies) -> Result<ShownJob, CliError> {
        match self {
            Self::Database(store) => database::job(store, id, bodies).await,
            Self::Server(server) => server.job(id).await,
        }
    }

    /// One job with its result, when it has ended or `most` has passed.
    pub async fn ended_job(&self, id: JobId, most: Duration) -> Result<ShownJob, CliError> {
        match self {
            Self::Database(store) => database::ended_job(store, id, most).await,
            Self::Server(server) => server.ended_job(id, most).await,
        }
    }

    /// The jobs that a filter means, newest first, without bodies.
    pub async fn jobs(&self, filter: &JobFilter, limit: u64) -> Result<Vec<ShownJob>, CliError> {
        match self {
            Self::Database(store) => database::jobs(store, filter, limit).await,
            Self::Server(server) => server.jobs(filter, limit).await,
        }
    }

    /// The changes of a job, until it ends.
    pub fn watch(&self, id: JobId) -> Watch {
        match self {
            Self::Database(store) => Watch::Database(Box::new(database::Watch::new(store.clone(), id))),
            Self::Server(server) => Watch::Server(Box::new(server.watch(id))),
        }
    }

    /// Jobs that are best submitted together.
    pub const fn batch_size(&self) -> usize {
        match self {
            Self::Database(_) => MAX_SUBMIT_BATCH,
            // Several chunks of the client, which go out at once.
            Self::Server(_) => 4_000,
        }
    }

    /// Stores jobs; tells what became of each, in their order. Over a server no job is stored twice, whatever breaks.
    pub async fn submit(&self, jobs: &[NewJob]) -> Result<Vec<Fate>, CliError> {
        match self {
            Self::Database(store) => database::submit(store, jobs).await,
            Self::Server(server) => server.submit(jobs).await,
        }
    }

    /// Cancels a job.
    pub async fn cancel(&self, id: JobId) -> Result<(), CliError> {
        match self {
            Self::Database(store) => database::cancel(store, id).await,
            Self::Server(server) => server.cancel(id).await,
        }
    }

    /// Starts an ended job again.
    pub async fn replay(&self, id: JobId) -> Result<(), CliError> {
        match self {
            Self::Database(store) => database::replay(store, id).await,
            Self::Server(server) => server.replay(id).await,
        }
    }

    /// Starts all ended jobs again that a filter means.
    pub async fn replay_matching(
        &self,
        filter: &JobFilter,
        limit: Option<u64>,
        rate_per_minute: Option<NonZeroU32>,
        dry_run: DryRun,
    ) -> Result<ManyReport, CliError> {
        match self {
            Self::Database(store) => {
                database::replay_matching(store, filter, limit, rate_per_minute, dry_run).await
            }
            Self::Server(server) => server.replay_matching(filter, limit, rate_per_minute, dry_run).await,
        }
    }

    /// The database, for what gRPC does not offer. `what`: as it reads before "is not offered"; `rest`: the call of REST that
    /// does the same.
    pub fn store(&self, what: &str, rest: &str) -> Result<&Store, CliError> {
        match self {
            Self::Database(store) => Ok(store),
            Self::Server(_) => Err(not_offered(what, Some(rest))),
        }
    }
}

/// The changes of one job.
pub enum Watch {
    /// Looked for in the database.
    Database(Box<database::Watch>),
    /// Told by a server.
    Server(Box<server::Watch>),
}

impl Watch {
    /// The job after its next change, first as it stands; `None` when it has ended and that was told.
    pub async fn next(&mut self) -> Result<Option<ShownJob>, CliError> {
        match self {
            Self::Database(watch) => watch.next().await,
            Self::Server(watch) => watch.next().await,
        }
    }
}
