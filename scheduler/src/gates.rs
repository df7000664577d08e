//! Which gates stand before queued jobs, as far as the database knows: schedules, and pauses of queues, upstreams and
//! accounts. Computed when a job is read: a gate that closes rewrites no job.

use std::{collections::BTreeMap, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sluice_config::Configuration;
use sluice_domain::{DEFAULT_MAX_ATTEMPTS, JobState, JobView, QueueName, TenantName};
use sluice_store::{Pause, PausedKind, Store};
use utoipa::ToSchema;

use crate::SchedulerError;

/// The gate that a queued job waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct DeferredBy {
    /// `schedule`, `queue_paused`, `upstream_paused`, `account_paused` or `no_route`.
    #[schema(example = "schedule")]
    pub gate: &'static str,
    /// Until when, where that is known.
    #[serde(serialize_with = "crate::job_json::optional_time")]
    pub until: Option<DateTime<Utc>>,
}

/// The gates of a tenant at one moment.
#[derive(Clone, Debug)]
pub struct Gates {
    database_now: DateTime<Utc>,
    read_at: Instant,
    paused_queues: BTreeMap<QueueName, DateTime<Utc>>,
    pauses: Vec<Pause>,
    configuration: Option<Configuration>,
}

impl Gates {
    /// Reads them: three short statements.
    pub async fn read(store: &Store, tenant: &TenantName) -> Result<Self, SchedulerError> {
        let configuration = configuration(store).await?;
        Self::read_with(store, tenant, configuration).await
    }

    /// Reads them, for workers that have a fixed configuration.
    pub async fn read_with(
        store: &Store,
        tenant: &TenantName,
        configuration: Option<Configuration>,
    ) -> Result<Self, SchedulerError> {
        let (database_now, queues) = store.queues_paused(tenant).await?;
        let pauses = store.pauses().await?;
        Ok(Self {
            database_now,
            read_at: Instant::now(),
            paused_queues: queues.into_iter().collect(),
            pauses,
            configuration,
        })
    }

    /// Tries at most of a job of `queue` that does not say.
    pub fn default_max_attempts(&self, queue: &QueueName) -> u16 {
        let policy = self.configuration.as_ref().map(|known| known.retry_policy(queue.as_str()));
        policy.map_or(DEFAULT_MAX_ATTEMPTS, |policy| policy.max_attempts)
    }

    /// The gate that a job waits for; the one that opens by itself last, if ever.
    pub fn deferring(&self, job: &JobView) -> Option<DeferredBy> {
        if job.state != JobState::Queued {
            return None;
        }
        let closed = |gate| Some(DeferredBy { gate, until: None });
        if self.paused_queues.contains_key(&job.queue) {
            return closed("queue_paused");
        }
        if let Some(configuration) = &self.configuration {
            let Some((upstream, _)) = configuration.route(job.model.as_str()) else {
                return closed("no_route");
            };
            if self.pause_of(PausedKind::Upstream, upstream.name.as_str()).is_some() {
                return closed("upstream_paused");
            }
            if self.pause_of(PausedKind::Account, &upstream.account).is_some() {
                return closed("account_paused");
            }
        }
        let run_at = job.run_at.filter(|at| *at > self.now())?;
        Some(DeferredBy { gate: "schedule", until: Some(run_at) })
    }

    /// Since when a queue is paused.
    pub(crate) fn queue_paused_at(&self, queue: &QueueName) -> Option<DateTime<Utc>> {
        self.paused_queues.get(queue).copied()
    }

    pub(crate) fn pause_of(&self, kind: PausedKind, name: &str) -> Option<&Pause> {
        self.pauses.iter().find(|pause| pause.kind == kind && pause.name == name)
    }

    pub(crate) fn configuration(&self) -> Option<&Configuration> {
        self.configuration.as_ref()
    }

    /// The database's time now, by our own clock since the reading.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.database_now + TimeDelta::from_std(self.read_at.elapsed()).unwrap_or_default()
    }
}

/// The configuration that counts; `None` before the first.
pub(crate) async fn configuration(store: &Store) -> Result<Option<Configuration>, SchedulerError> {
    let Some(applied) = store.configuration().await? else { return Ok(None) };
    match Configuration::parse(&applied.document) {
        Ok(configuration) => Ok(Some(configuration)),
        Err(source) => Err(SchedulerError::Configuration { version: applied.version, source }),
    }
}
