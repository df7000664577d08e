//! Row 23: hints are lost. The sessions that listen are ended each second; then as soon as they are there, which is what
//! NOTIFY switched off looks like; and everything but beats goes by way of a pooler in transaction mode. Polling finds
//! the work all the same.

mod pooler;

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use sqlx::PgPool;

use self::pooler::Pooler;
use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, Told};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 23,
    name: "listener killed each second; PgBouncer in transaction mode; NOTIFY off",
    done: "Few jobs come while listeners are killed each second, then at once, and by way of PgBouncer where there is one.",
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
    NotifyOff,
    Pooler,
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("20ms")).await?;
    let mut findings = Findings::default();
    let pooler = match Pooler::start(&lab).await? {
        Ok(pooler) => Some(pooler),
        Err(reason) => {
            findings.note(format!("without a pooler: {reason}"));
            None
        }
    };
    lab.start_scheduler().await?;
    let worker = lab.start_worker(10).await?;
    let mut told = Told::default();
    for (phase, pause) in [(Phase::KilledEachSecond, 1_000), (Phase::NotifyOff, 20)] {
        let killer = tokio::spawn(kill_listeners(lab.pool().clone(), Duration::from_millis(pause)));
        let since = lab.now().await?;
        submit_few(case, &lab, phase, &mut told).await?;
        killer.abort();
        pick_ups(case, &lab, phase, since, &mut findings).await?;
    }
    if let Some(pooler) = pooler {
        lab.workers[worker].process.ask_to_end()?;
        lab.workers[worker].process.wait_for_end(Duration::from_mins(1)).await?;
        lab.schedulers.clear();
        let direct = lab.cluster.url().to_owned();
        lab.variables.extend([("DATABASE_URL", pooler.url()), ("DATABASE_DIRECT_URL", direct)]);
        lab.start_scheduler().await?;
        lab.start_worker(10).await?;
        let since = lab.now().await?;
        submit_few(case, &lab, Phase::Pooler, &mut told).await?;
        pick_ups(case, &lab, Phase::Pooler, since, &mut findings).await?;
    }
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(1)).await?;
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.demand_recovered_within(case.bound(POLL + SLACK));
    Ok(findings.report(case, &reckoning))
}

/// So few that the worker falls asleep between them.
async fn submit_few(case: &Case, lab: &Lab, phase: Phase, told: &mut Told) -> Result<()> {
    let seed = case.seed * 10 + phase as u64;
    let plan = LoadPlan { seed, per_second: 0.9, most: case.pick(8, 40), hold_share: 0.0 };
    let heard = Load::start(lab, plan)?.finish().await?;
    told.acknowledged.extend(heard.acknowledged);
    told.failed.extend(heard.failed);
    told.never_told.extend(heard.never_told);
    told.unknown_answers += heard.unknown_answers;
    tokio::time::sleep(POLL + SLACK).await;
    Ok(())
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
async fn kill_listeners(pool: PgPool, pause: Duration) {
    loop {
        // A look that fails is repeated.
        let _ = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND query ILIKE 'LISTEN %'",
        )
        .execute(&pool)
        .await;
        tokio::time::sleep(pause).await;
    }
}
