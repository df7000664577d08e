//! Which gates stand before queued jobs, as far as the database knows: schedules, pauses of queues, upstreams and
//! accounts, and breakers. Computed when a job is read: a gate that closes rewrites no job.

use std::{borrow::Cow, collections::BTreeMap, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sluice_config::{Configuration, Upstream};
use sluice_domain::{
    DEFAULT_MAX_ATTEMPTS, DeclaredLimit, JobState, JobView, ModelName, QueueName, TenantName,
};
use sluice_store::{Cooldown, LimitUse, OpenBreaker, Pause, PausedKind, Store, paused_model};
use utoipa::ToSchema;

use crate::SchedulerError;

/// The gate that a queued job waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct DeferredBy {
    /// `schedule`, `queue_paused`, `upstream_failing`, `upstream_paused`, `account_paused`, `model_paused`, `no_route`,
    /// `cooldown` or `limit`.
    #[schema(example = "schedule")]
    pub gate: Cow<'static, str>,
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
    breakers: Vec<OpenBreaker>,
    limits: Vec<LimitUse>,
    cooldowns: Vec<Cooldown>,
    configuration: Option<Configuration>,
}

/// What stands before one target of a job's route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InTheWay<'a> {
    /// The upstream or its account is paused, until a person resumes it.
    Pause(&'a Pause),
    /// The upstream fails, and is tried again by itself.
    Breaker(&'a OpenBreaker),
}

impl Gates {
    /// Reads them: five short statements, and one more where there are limits.
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
        let breakers = store.breakers_open().await?;
        let cooldowns = store.cooldowns().await?;
        let has_limits = configuration.as_ref().is_some_and(|known| !known.declared_limits().is_empty());
        let limits = if has_limits { store.limits().await? } else { Vec::new() };
        Ok(Self {
            database_now,
            read_at: Instant::now(),
            paused_queues: queues.into_iter().collect(),
            pauses,
            breakers,
            limits,
            cooldowns,
            configuration,
        })
    }

    /// Gates for jobs that have ended, before which none stands.
    pub(crate) fn of_ended(configuration: Configuration) -> Self {
        Self {
            database_now: DateTime::UNIX_EPOCH,
            read_at: Instant::now(),
            paused_queues: BTreeMap::new(),
            pauses: Vec::new(),
            breakers: Vec::new(),
            limits: Vec::new(),
            cooldowns: Vec::new(),
            configuration: Some(configuration),
        }
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
        let closed = |gate: &'static str| Some(DeferredBy { gate: gate.into(), until: None });
        if self.paused_queues.contains_key(&job.queue) {
            return closed("queue_paused");
        }
        if let Some(configuration) = &self.configuration {
            match self.before_route(configuration, job.model.as_str()) {
                None => return closed("no_route"),
                Some(in_the_way) => match in_the_way.first() {
                    Some((_, InTheWay::Breaker(open))) => {
                        return Some(DeferredBy {
                            gate: "upstream_failing".into(),
                            until: Some(open.trial_at),
                        });
                    }
                    Some((_, InTheWay::Pause(pause))) if pause.kind == PausedKind::Account => {
                        return closed("account_paused");
                    }
                    Some((_, InTheWay::Pause(pause))) if pause.kind == PausedKind::Model => {
                        return closed("model_paused");
                    }
                    Some((_, InTheWay::Pause(_))) => return closed("upstream_paused"),
                    None => {}
                },
            }
        }
        if let Some(run_at) = job.run_at.filter(|at| *at > self.now()) {
            return Some(DeferredBy { gate: "schedule".into(), until: Some(run_at) });
        }
        if let Some(cooled) = self.cooldown_of(job) {
            return Some(DeferredBy { gate: "cooldown".into(), until: Some(cooled.until) });
        }
        let full = self.full_limits(job).into_iter().next()?;
        Some(DeferredBy { gate: "limit".into(), until: full.falls_at })
    }

    /// Since when a queue is paused.
    pub(crate) fn queue_paused_at(&self, queue: &QueueName) -> Option<DateTime<Utc>> {
        self.paused_queues.get(queue).copied()
    }

    /// The models that are paused at an upstream, each with its pause.
    pub(crate) fn paused_models<'a>(
        &'a self,
        upstream: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Pause)> {
        let of_models = self.pauses.iter().filter(|pause| pause.kind == PausedKind::Model);
        let named = of_models.filter_map(|pause| Some((pause.name.split_once(' ')?, pause)));
        named.filter(move |((of, _), _)| *of == upstream).map(|((_, model), pause)| (model, pause))
    }

    pub(crate) fn pause_of(&self, kind: PausedKind, name: &str) -> Option<&Pause> {
        self.pauses.iter().find(|pause| pause.kind == kind && pause.name == name)
    }

    /// What stands before the targets of a model's route, where each of them has something before it; first what goes away
    /// by itself. Empty where a target is free, `None` where there is no route.
    pub(crate) fn before_route<'a>(
        &'a self,
        configuration: &'a Configuration,
        model: &'a str,
    ) -> Option<Vec<(&'a Upstream, InTheWay<'a>)>> {
        let targets = configuration.targets(model);
        if targets.is_empty() {
            return None;
        }
        let mut in_the_way = Vec::new();
        for (upstream, there) in targets {
            match self.before(upstream, there) {
                Some(cause) => in_the_way.push((upstream, cause)),
                None => return Some(Vec::new()),
            }
        }
        in_the_way.sort_by_key(|(_, cause)| !matches!(cause, InTheWay::Breaker(_)));
        Some(in_the_way)
    }

    fn before(&self, upstream: &Upstream, there: &str) -> Option<InTheWay<'_>> {
        let name = upstream.name.as_str();
        let pause = self.pause_of(PausedKind::Upstream, name);
        let pause = pause.or_else(|| self.pause_of(PausedKind::Account, &upstream.account));
        let pause = pause.or_else(|| self.pause_of(PausedKind::Model, &paused_model(name, there)));
        pause.map(InTheWay::Pause).or_else(|| self.breaker_of(name).map(InTheWay::Breaker))
    }

    /// The breaker of an upstream, if it is open.
    pub(crate) fn breaker_of(&self, name: &str) -> Option<&OpenBreaker> {
        self.breakers.iter().find(|open| open.upstream == name)
    }

    /// The targets of a job's route that are neither paused nor failing.
    fn targets_of<'a>(&'a self, job: &'a JobView) -> Vec<(&'a Upstream, &'a str)> {
        let targets = self.configuration.as_ref().map(|known| known.targets(job.model.as_str()));
        let targets = targets.unwrap_or_default().into_iter();
        targets.filter(|(upstream, there)| self.before(upstream, there).is_none()).collect()
    }

    /// The closed gate that a job's call would go through, where each target has one; the one that opens first.
    pub(crate) fn cooldown_of(&self, job: &JobView) -> Option<&Cooldown> {
        let targets = self.targets_of(job).into_iter();
        let closed: Option<Vec<&Cooldown>> =
            targets.map(|(up, there)| self.cooldown_before(up, there)).collect();
        closed?.into_iter().min_by_key(|known| known.until)
    }

    /// Of the two gates of a target, the one that is closed longer.
    fn cooldown_before(&self, upstream: &Upstream, there: &str) -> Option<&Cooldown> {
        let is_on_the_way = |known: &&Cooldown| {
            known.gate.model == there
                && match known.gate.kind {
                    PausedKind::Upstream => known.gate.name == upstream.name.as_str(),
                    PausedKind::Account => known.gate.name == upstream.account,
                    // Gates that open by themselves are of an upstream or an account.
                    PausedKind::Model => false,
                }
        };
        let closed = self.cooldowns.iter().filter(|known| known.until > self.now());
        closed.filter(is_on_the_way).max_by_key(|known| known.until)
    }

    /// The limits of a job that have no room now, where each target has such; those of the first. Those stand before others of
    /// which nobody knows when they will have room.
    pub(crate) fn full_limits(&self, job: &JobView) -> Vec<&LimitUse> {
        let targets = self.targets_of(job).into_iter();
        let mut full = targets.map(|(upstream, there)| self.full_limits_at(job, upstream, there));
        let first = full.next().unwrap_or_default();
        if full.any(|of_another| of_another.is_empty()) { Vec::new() } else { first }
    }

    fn full_limits_at(&self, job: &JobView, upstream: &Upstream, there: &str) -> Vec<&LimitUse> {
        let Some(configuration) = &self.configuration else { return Vec::new() };
        let there = ModelName::from_stored(there.to_owned());
        let needed = configuration.limits_of(&job.tenant, &job.queue, &upstream.account, &there);
        let ids: Vec<_> = needed.iter().map(DeclaredLimit::id).collect();
        let is_full = |known: &&LimitUse| ids.contains(&known.id) && known.used >= known.limit.cap as i64;
        let mut full: Vec<&LimitUse> = self.limits.iter().filter(is_full).collect();
        full.sort_by_key(|known| (known.falls_at.is_some(), std::cmp::Reverse(known.falls_at)));
        full
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
