//! Why a job is not running: which gate, which limit, until when.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sluice_config::{Configuration, Upstream};
use sluice_domain::{HoldReason, JobId, JobState, JobView, TenantName};
use sluice_store::{Bodies, Cooldown, JobStanding, LimitUse, OpenBreaker, Pause, PausedKind, Store};
use utoipa::ToSchema;

use crate::{
    Gates, SchedulerError,
    gates::InTheWay,
    job_json::{optional_time, rfc3339},
};

/// The answer to "why is this job not running?".
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// The job.
    #[serde(serialize_with = "job_id")]
    #[schema(value_type = uuid::Uuid)]
    pub id: JobId,
    /// Always `explanation`.
    pub object: &'static str,
    /// Where it stands.
    #[serde(serialize_with = "state")]
    #[schema(value_type = String, example = "queued")]
    pub state: JobState,
    /// One sentence.
    pub summary: String,
    /// Everything that stands between it and a call, the most stubborn first; empty where it can start any moment,
    /// runs, or has ended.
    pub blockers: Vec<Blocker>,
    /// Jobs of its lane that go first, counted up to 10,000; of a queued job.
    pub jobs_before: Option<u64>,
    /// Workers that beat and take work; of a queued job.
    pub workers_alive: Option<u64>,
    /// The worker that runs it.
    pub worker: Option<String>,
}

/// One thing that stands in a job's way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Blocker {
    /// Which kind.
    pub kind: BlockerKind,
    /// What it is, and what opens it.
    pub message: String,
    /// Until when, where that is known.
    #[serde(serialize_with = "optional_time")]
    pub until: Option<DateTime<Utc>>,
}

/// What can stand in a job's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockerKind {
    /// It waits for a person.
    Held,
    /// No configuration was applied.
    NoConfiguration,
    /// No route leads from its model to an upstream.
    NoRoute,
    /// Its queue is paused.
    QueuePaused,
    /// An upstream of its route fails. It is tried again by itself.
    UpstreamFailing,
    /// An upstream of its route is paused.
    UpstreamPaused,
    /// The account of an upstream of its route is paused.
    AccountPaused,
    /// Its model is paused at an upstream of its route, which forbids calls of it.
    ModelPaused,
    /// No worker is there.
    NoWorker,
    /// Its time has not come.
    Schedule,
    /// Its upstream or account asked to be left alone for a while.
    Cooldown,
    /// A limit of its account, model or queue is used up.
    Limit,
    /// Others go first.
    JobsBefore,
}

impl Explanation {
    /// The answer for people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.summary.clone()];
        lines.extend(self.blockers.iter().map(|blocker| format!("- {}", blocker.message)));
        lines
    }
}

/// Explains a job; `None` where there is no such job of this tenant. `fixed` is the configuration of workers that do
/// not follow the database's.
pub async fn explain(
    store: &Store,
    fixed: Option<&Configuration>,
    tenant: &TenantName,
    id: JobId,
) -> Result<Option<Explanation>, SchedulerError> {
    let Some(job) = store.job(tenant, id, Bodies::LeftOut).await? else { return Ok(None) };
    Ok(Some(match job.state {
        JobState::Queued => {
            let gates = match fixed {
                Some(fixed) => Gates::read_with(store, tenant, Some(fixed.clone())).await?,
                None => Gates::read(store, tenant).await?,
            };
            match store.job_standing(id).await? {
                Some(standing) => queued(&job, &gates, standing),
                // It was leased between the two looks.
                None => plain(&job, "A worker has just taken it.".to_owned()),
            }
        }
        JobState::Running => running(store, &job).await?,
        JobState::Held => held(&job),
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => plain(&job, ended_summary(&job)),
    }))
}

fn plain(job: &JobView, summary: String) -> Explanation {
    Explanation {
        id: job.id,
        object: "explanation",
        state: job.state,
        summary,
        blockers: Vec::new(),
        jobs_before: None,
        workers_alive: None,
        worker: None,
    }
}

fn ended_summary(job: &JobView) -> String {
    let mut summary = format!("It has ended: {}", job.state);
    if let Some(at) = job.finished_at {
        let _ = write!(summary, " at {}", rfc3339(at));
    }
    if let Some(error) = &job.error {
        let _ = write!(summary, ", {}: {}", error.class, error.message);
    }
    summary + ". A replay starts it again."
}

async fn running(store: &Store, job: &JobView) -> Result<Explanation, SchedulerError> {
    let attempts = store.attempts(&job.tenant, job.id).await?.unwrap_or_default();
    let incarnation = attempts.iter().rev().find(|a| a.ended_at.is_none()).map(|a| a.incarnation_id);
    let worker = store.workers().await?.into_iter().find(|worker| Some(worker.id) == incarnation);
    let mut explanation = plain(job, "It runs".to_owned());
    if let Some(worker) = worker {
        let _ = write!(
            explanation.summary,
            " on worker {} (pid {} of {})",
            worker.worker, worker.pid, worker.host
        );
        explanation.worker = Some(worker.worker);
    }
    if let Some(since) = job.started_at {
        let _ = write!(explanation.summary, " since {}", rfc3339(since));
    }
    explanation.summary.push('.');
    Ok(explanation)
}

fn held(job: &JobView) -> Explanation {
    let why = match job.hold_reason {
        Some(HoldReason::Poison) => "the processes that worked on it kept crashing",
        Some(HoldReason::UnknownOutcome) | None => {
            "a call may have been made, its answer is not known, and the job says on_unknown: hold"
        }
    };
    let message = format!(
        "It is held: {why}. Release it to run it again (sluice release, POST /v1/jobs/{}/release), or cancel it.",
        job.id
    );
    let blockers = vec![Blocker { kind: BlockerKind::Held, message, until: None }];
    Explanation { blockers, ..plain(job, "It waits for a person.".to_owned()) }
}

fn queued(job: &JobView, gates: &Gates, standing: JobStanding) -> Explanation {
    let mut blockers = Vec::new();
    let mut block = |kind, message, until| blockers.push(Blocker { kind, message, until });
    block_by_route(job, gates, &mut block);
    if let Some(since) = standing.queue_paused_at.or_else(|| gates.queue_paused_at(&job.queue)) {
        let message = format!(
            "Queue {:?} is paused since {}. Resume it with: sluice resume {}",
            job.queue.as_str(),
            rfc3339(since),
            job.queue
        );
        block(BlockerKind::QueuePaused, message, None);
    }
    if standing.workers_alive == 0 {
        let message = "No worker is alive. Start one with: sluice worker".to_owned();
        block(BlockerKind::NoWorker, message, None);
    }
    if !standing.is_due {
        let why = if job.tries > 0 || job.error.is_some() { "It is tried again" } else { "It is scheduled" };
        let message = format!("{why} at {}.", rfc3339(standing.run_at));
        blockers.push(Blocker { kind: BlockerKind::Schedule, message, until: Some(standing.run_at) });
    }
    blockers.extend(gates.cooldown_of(job).map(|cooled| Blocker {
        kind: BlockerKind::Cooldown,
        message: cooled_message(cooled),
        until: Some(cooled.until),
    }));
    blockers.extend(gates.full_limits(job).into_iter().map(|full| Blocker {
        kind: BlockerKind::Limit,
        message: full_message(full),
        until: full.falls_at,
    }));
    if standing.is_due && standing.jobs_before > 0 {
        let count = match standing.jobs_before {
            1 => "1 job of its queue and model goes".to_owned(),
            10_000.. => "At least 10000 jobs of its queue and model go".to_owned(),
            more => format!("{more} jobs of its queue and model go"),
        };
        let message = format!("{count} first.");
        blockers.push(Blocker { kind: BlockerKind::JobsBefore, message, until: None });
    }
    let summary = match blockers.first() {
        Some(_) => "It is queued and waits:",
        None => "It is queued, nothing stands in its way, and a worker takes it within moments.",
    };
    Explanation {
        blockers,
        jobs_before: Some(standing.jobs_before),
        workers_alive: Some(standing.workers_alive),
        ..plain(job, summary.to_owned())
    }
}

/// What stands between the job's model and the upstreams that serve it; nothing where one of them is free.
fn block_by_route(
    job: &JobView,
    gates: &Gates,
    block: &mut impl FnMut(BlockerKind, String, Option<DateTime<Utc>>),
) {
    let Some(configuration) = gates.configuration() else {
        let message = "No configuration was applied, so workers know no upstream. Apply one: sluice apply -f sluice.yaml";
        return block(BlockerKind::NoConfiguration, message.to_owned(), None);
    };
    let Some(in_the_way) = gates.before_route(configuration, job.model.as_str()) else {
        let message = format!(
            "No route leads from model {:?} to an upstream. Add one under routes: in sluice.yaml and apply it.",
            job.model.as_str()
        );
        return block(BlockerKind::NoRoute, message, None);
    };
    for (upstream, cause) in in_the_way {
        match cause {
            InTheWay::Breaker(open) => {
                block(BlockerKind::UpstreamFailing, failing(open), Some(open.trial_at));
            }
            InTheWay::Pause(pause) => {
                let (kind, message) = paused(upstream, pause);
                block(kind, message, None);
            }
        }
    }
}

fn failing(open: &OpenBreaker) -> String {
    let failed = match open.failed_trials {
        0 => String::new(),
        1 => " One call since then has failed, too.".to_owned(),
        more => format!(" {more} calls since then have failed, too."),
    };
    let next = if open.is_on_trial {
        "One call tries at this moment whether it works again".to_owned()
    } else {
        format!("The next call tries it at {}, or sooner when it answers a probe", rfc3339(open.trial_at))
    };
    let (upstream, since) = (&open.upstream, rfc3339(open.opened_at));
    format!("Upstream {upstream:?} fails since {since} ({}).{failed} {next}.", open.reason)
}

fn paused(upstream: &Upstream, pause: &Pause) -> (BlockerKind, String) {
    let (name, since, reason) = (&pause.name, rfc3339(pause.paused_at), &pause.reason);
    match pause.kind {
        PausedKind::Upstream => (
            BlockerKind::UpstreamPaused,
            format!(
                "Upstream {name:?} is paused since {since} ({reason}). Resume it with: sluice resume --upstream {name}"
            ),
        ),
        PausedKind::Account => (
            BlockerKind::AccountPaused,
            format!(
                "Account {name:?} of upstream {:?} is paused since {since} ({reason}). Resume it with: sluice resume \
                 --account {name}",
                upstream.name.as_str()
            ),
        ),
        PausedKind::Model => (
            BlockerKind::ModelPaused,
            format!(
                "Upstream {:?} is not called with model {:?} since {since} ({reason}). Resume it with: sluice resume \
                 --upstream {}",
                upstream.name.as_str(),
                name.split_once(' ').map_or(name.as_str(), |(_, model)| model),
                upstream.name.as_str(),
            ),
        ),
    }
}

fn cooled_message(cooled: &Cooldown) -> String {
    let kind = if cooled.gate.kind == PausedKind::Account { "Account" } else { "Upstream" };
    let why = if cooled.is_told { "asked to be left alone" } else { "refuses everything" };
    format!(
        "{kind} {:?} {why} with model {:?} ({}) since {}. It is called again from {} on.",
        cooled.gate.name,
        cooled.gate.model,
        cooled.reason,
        rfc3339(cooled.closed_at),
        rfc3339(cooled.until)
    )
}

fn full_message(full: &LimitUse) -> String {
    let used = format!("A limit is used up: {} ({} used).", full.limit, full.used);
    match full.falls_at {
        Some(at) => format!("{used} The next of it falls free at {}.", rfc3339(at)),
        None => format!("{used} A call has to end first."),
    }
}

fn job_id<S: Serializer>(id: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "this is how serde calls it")]
fn state<S: Serializer>(state: &JobState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}
