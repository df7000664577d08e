//! Row 23: hints are lost. The sessions that listen are ended each second; then they live on, and the server's own
//! function that notifies does nothing; and everything but beats goes by way of a pooler in transaction mode. Polling
//! finds the work all the same.
//!
//! A session that listens is made anew when it ends, and whoever made it looks at once, since bells may have been missed.
//! So only where they live on in silence does polling alone find the work.

mod pooler;
mod silence;

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use sqlx::PgPool;

use self::{pooler::Pooler, silence::Silence};
use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, Told};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 23,
    name: "listener killed each second; PgBouncer in transaction mode; NOTIFY off",
    done: "Few jobs come while listeners are killed each second; while listeners live and NOTIFY does nothing; and by way of PgBouncer.",
    must_hold: "Each job is picked up within the poll interval; nothing else changes.",
    run: |case| run(case).boxed_local(),
};

/// The workers' poll interval, and a fifth by jitter.
const POLL: Duration = Duration::from_millis(2_400);
/// From the end of a poll to the lease, and the commit.
const SLACK: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    KilledEachSecond,
    Pooler,
    NotifyOff,
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("20ms")).await?;
    let pooler = match Pooler::start(&lab).await? {
        Ok(pooler) => pooler,
        Err(reason) => return Ok(Report::skipped(case, &reason)),
    };
    let mut row = Running { case, told: Told::default(), findings: Findings::default() };
    start_roles(&mut lab).await?;
    let killer = tokio::spawn(kill_listeners(lab.pool().clone()));
    row.few_jobs(&lab, Phase::KilledEachSecond).await?;
    killer.abort();

    let direct = ("DATABASE_URL", lab.cluster.url().to_owned());
    lab.variables.extend([("DATABASE_URL", pooler.url()), ("DATABASE_DIRECT_URL", direct.1.clone())]);
    restart_roles(&mut lab).await?;
    row.few_jobs(&lab, Phase::Pooler).await?;
    row.many_jobs(&lab).await?;

    lab.variables.push(direct);
    let mut silence = Silence::fall(&lab).await?;
    restart_roles(&mut lab).await?;
    let listeners = silence.until_listened().await?;
    row.few_jobs(&lab, Phase::NotifyOff).await?;
    let heard = silence.heard().await?;
    let Running { told, mut findings, .. } = row;
    findings.demand(heard == 0, || format!("{heard} bells rang although NOTIFY was off"));
    let listeners_after = silence.left_of(&listeners).await?;
    findings.demand(listeners_after == listeners, || {
        format!(
            "while NOTIFY was off the sessions that listen went from {listeners:?} to {listeners_after:?}"
        )
    });

    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(1)).await?;
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.demand_recovered_within(case.bound(POLL + SLACK));
    Ok(findings.report(case, &reckoning))
}

async fn start_roles(lab: &mut Lab) -> Result<()> {
    lab.start_scheduler().await?;
    lab.start_worker(10).await.map(drop)
}

/// Ends the scheduler and the worker, and starts others with the variables as they are now.
async fn restart_roles(lab: &mut Lab) -> Result<()> {
    lab.drain_workers(Duration::from_mins(1)).await?;
    lab.schedulers.clear();
    start_roles(lab).await
}

/// What was done so far.
struct Running<'a> {
    case: &'a Case,
    told: Told,
    findings: Findings,
}

impl Running<'_> {
    /// So few that the worker falls asleep between them.
    async fn few_jobs(&mut self, lab: &Lab, phase: Phase) -> Result<()> {
        let since = lab.now().await?;
        let seed = self.case.seed * 10 + phase as u64;
        let plan = LoadPlan { seed, per_second: 0.9, most: self.case.pick(8, 40), hold_share: 0.0 };
        self.told.add(Load::start(lab, plan)?.finish().await?);
        tokio::time::sleep(POLL + SLACK).await;
        pick_ups(self.case, lab, phase, since, &mut self.findings).await
    }

    /// So many that statements share the pooler's connections.
    async fn many_jobs(&mut self, lab: &Lab) -> Result<()> {
        let seed = self.case.seed * 10 + 9;
        let plan = LoadPlan { seed, per_second: 200.0, most: self.case.pick(400, 4_000), hold_share: 0.05 };
        let before = self.told.unknown_answers;
        self.told.add(Load::start(lab, plan)?.finish().await?);
        let unknown = self.told.unknown_answers - before;
        self.findings.demand(unknown == 0, || format!("{unknown} submits failed by way of the pooler"));
        Ok(())
    }
}

/// How long each job of this phase waited for its lease.
async fn pick_ups(
    case: &Case,
    lab: &Lab,
    phase: Phase,
    since: chrono::DateTime<chrono::Utc>,
    findings: &mut Findings,
) -> Result<()> {
    let begun = Instant::now();
    let waits = loop {
        let waits: Vec<Option<f64>> = sqlx::query_scalar(
            "SELECT extract(epoch FROM b.begun_at - j.created_at)::float8
             FROM sluice.jobs j LEFT JOIN sluice.attempts_begun b ON b.job_id = j.id AND b.lease_no = 1
             WHERE j.created_at > $1",
        )
        .bind(since)
        .fetch_all(lab.pool())
        .await?;
        if waits.iter().all(Option::is_some) || begun.elapsed() > case.bound(POLL) {
            break waits;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let never = waits.iter().filter(|wait| wait.is_none()).count();
    findings
        .demand(never == 0, || format!("{phase:?}: {never} of {} jobs were never picked up", waits.len()));
    let mut longest = Duration::ZERO;
    for wait in waits.into_iter().flatten() {
        let wait = Duration::from_secs_f64(wait.max(0.0));
        longest = longest.max(wait);
        findings.recovered(Recovery::of(wait));
    }
    findings.note(format!("{phase:?}: the longest wait was {longest:?}"));
    Ok(())
}

/// Ends the sessions that listen, again and again.
async fn kill_listeners(pool: PgPool) {
    loop {
        // A look that fails is repeated.
        let _ = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database()
               AND (query ILIKE 'LISTEN %' OR query LIKE '-- doorbell_connection_check%')",
        )
        .execute(&pool)
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
