//! Watches a run while it runs: takes results as they come, shows progress, and sees when it is over.

use std::time::{Duration, Instant};

use sluice_domain::{JobId, NanoUsd};
use sluice_store::{PausedKind, paused_model};
use sluice_worker::{Blocked, BlockedBy, SettledJob, WorkerHandle};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    collector::Collector,
    engine::TICK,
    outcome::Ending,
    plan::{Limits, OnFailure},
    progress::Progress,
    tally::Tally,
};
use crate::{database::Database, exit::CliError};

/// Between two looks at jobs that others may have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Between two requests to bring results to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// So long nothing may move before what is blocked ends the run.
const MAX_STANDSTILL: Duration = Duration::from_secs(5);
/// Groups of hints that are taken at once.
const MAX_GROUPS: usize = 64;
/// The reason of a pause that a person made.
const PAUSED_BY_OPERATOR: &str = "operator";

/// What is watched.
pub struct Watch {
    progress: Progress,
    limits: Limits,
    spent_here: NanoUsd,
    /// Until when it is no wonder that nothing moves.
    quiet_until: Instant,
    said_blocked: bool,
    failure: Option<String>,
}

impl Watch {
    /// Begins.
    pub fn start(tally: &Tally, limits: Limits) -> Self {
        Self {
            progress: Progress::start(tally),
            limits,
            spent_here: NanoUsd(0),
            quiet_until: Instant::now() + MAX_STANDSTILL,
            said_blocked: false,
            failure: None,
        }
    }

    /// Says something without tearing the display.
    pub fn say(&self, line: &str) {
        self.progress.say(line);
    }

    /// Ends the display.
    pub fn finish(self) {
        self.progress.finish();
    }

    /// Collects until the run is over. May be dropped at any await: what was fetched and not handed over is still
    /// outstanding.
    pub async fn collect(
        &mut self,
        collector: &mut Collector,
        settled_groups: &mut mpsc::UnboundedReceiver<Vec<SettledJob>>,
        found_groups: &mut mpsc::UnboundedReceiver<Vec<JobId>>,
        submitting: &mut JoinHandle<Result<(), CliError>>,
        worker: &WorkerHandle,
        database: &Database,
    ) -> Result<Ending, CliError> {
        let mut ticks = interval(TICK);
        let mut sweeps = interval(SWEEP_EVERY);
        let mut syncs = interval(SYNC_EVERY);
        for timer in [&mut ticks, &mut sweeps, &mut syncs] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut is_submitted = false;
        loop {
            tokio::select! {
                Some(settled) = next_groups(settled_groups) => {
                    self.note(&settled);
                    collector.heard(settled).await?;
                }
                Some(found) = found_groups.recv() => collector.look_at(&found).await?,
                submitted = &mut *submitting, if !is_submitted => {
                    submitted.map_err(|error| CliError::unreachable(format!("failed to submit: {error}")))??;
                    is_submitted = true;
                }
                _ = ticks.tick() => self.progress.show(&collector.tally, worker.in_flight(), Instant::now()),
                _ = sweeps.tick() => {
                    collector.sweep().await?;
                    if let Some(reason) = self.standstill(worker, database).await? {
                        return Ok(Ending::Blocked(reason));
                    }
                }
                _ = syncs.tick() => collector.sync().await?,
            }
            if let Some(ending) = self.limit_reached(&collector.tally) {
                return Ok(ending);
            }
            if is_submitted && collector.is_complete() && found_groups.is_empty() {
                return Ok(Ending::Complete);
            }
        }
    }

    fn note(&mut self, settled: &[SettledJob]) {
        let now = Instant::now();
        for job in settled {
            self.spent_here = self.spent_here + job.cost;
            let rest = job.retry_in.unwrap_or_default();
            self.quiet_until = self.quiet_until.max(now + rest + MAX_STANDSTILL);
            if let (Some((class, message)), None) = (&job.error, &self.failure) {
                self.failure = Some(format!("{class}: {message}"));
            }
        }
    }

    /// Whether what the run may spend is spent, or a job failed that should not. What attempts cost that are tried
    /// again counts too.
    fn limit_reached(&self, tally: &Tally) -> Option<Ending> {
        let spent = self.spent_here.max(tally.cost) + tally.kept_cost;
        let is_unfinished = tally.done() < tally.total;
        if is_unfinished && self.limits.max_cost.is_some_and(|most| spent >= most) {
            return Some(Ending::CostReached);
        }
        let has_failed = tally.failed > 0;
        (is_unfinished && has_failed && self.limits.on_failure == OnFailure::Stop)
            .then_some(Ending::FailedFast)
    }

    /// What stands in the way, where nothing moves and nothing will by itself. A pause that a person made is waited
    /// for, and so is an upstream that fails.
    async fn standstill(
        &mut self,
        worker: &WorkerHandle,
        database: &Database,
    ) -> Result<Option<String>, CliError> {
        let blocked = worker.blocked();
        if blocked.is_empty() {
            self.said_blocked = false;
            return Ok(None);
        }
        if worker.in_flight() > 0 || Instant::now() < self.quiet_until {
            return Ok(None);
        }
        let pauses = database.store.pauses().await?;
        let is_by_person = |kind: PausedKind, name: &str| {
            pauses
                .iter()
                .any(|pause| pause.kind == kind && pause.name == name && pause.reason == PAUSED_BY_OPERATOR)
        };
        let goes_on_later = blocked.iter().any(|blocked| match &blocked.by {
            BlockedBy::UpstreamPaused(name) => is_by_person(PausedKind::Upstream, name),
            BlockedBy::AccountPaused(name) => is_by_person(PausedKind::Account, name),
            BlockedBy::ModelPaused { upstream, model } => {
                is_by_person(PausedKind::Model, &paused_model(upstream, model))
            }
            BlockedBy::UpstreamFailing(_) => true,
            BlockedBy::UpstreamUnusable { .. } | BlockedBy::NotConfigured => false,
        });
        let mut reasons: Vec<_> = blocked.iter().map(|blocked| self.reason(blocked, database)).collect();
        reasons.dedup();
        let reason = reasons.join("; ");
        if !goes_on_later {
            return Ok(Some(reason));
        }
        if !std::mem::replace(&mut self.said_blocked, true) {
            self.say(&format!("waiting: {reason}"));
        }
        Ok(None)
    }

    fn reason(&self, blocked: &Blocked, database: &Database) -> String {
        let cause = self.failure.as_ref().map(|failure| format!(" ({failure})")).unwrap_or_default();
        let (what, flag, name) = match &blocked.by {
            BlockedBy::UpstreamPaused(name) => ("upstream", "--upstream", name),
            BlockedBy::AccountPaused(name) => ("account", "--account", name),
            BlockedBy::ModelPaused { upstream, model } => {
                return format!(
                    "upstream {upstream} forbids calls of model {model}{cause}: see to the key's rights and `sluice \
                     resume --upstream {upstream}`"
                );
            }
            BlockedBy::UpstreamFailing(upstream) => {
                return format!("upstream {upstream} fails; it is called again when it works again");
            }
            BlockedBy::UpstreamUnusable { upstream, reason } => {
                return format!("upstream {upstream} can't be called: {reason}; see to it");
            }
            BlockedBy::NotConfigured => return "no upstream is configured; write a sluice.yaml".to_owned(),
        };
        // On a private database the next run lifts what an earlier one met.
        let remedy = if database.is_private() {
            "see to the cause (key, money)".to_owned()
        } else {
            format!("see to the cause (key, money) and `sluice resume {flag} {name}`")
        };
        format!("{what} {name} is paused{cause}: {remedy}")
    }
}

/// All groups that have come; waits for the first.
async fn next_groups(groups: &mut mpsc::UnboundedReceiver<Vec<SettledJob>>) -> Option<Vec<SettledJob>> {
    let mut settled = groups.recv().await?;
    for _ in 1..MAX_GROUPS {
        let Ok(more) = groups.try_recv() else { break };
        settled.extend(more);
    }
    Some(settled)
}
