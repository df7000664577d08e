//! Row 22: somebody holds a snapshot for long, while jobs are worked at a steady rate under limits that don't bind.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde_json::{Value, json};
use sluice_domain::NewJob;
use sluice_store::{Store, StoreOptions};
use sluice_testkit::job;
use sqlx::{Connection, PgConnection};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Recovery, Told};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 22,
    name: "a snapshot held for 30 min, under limits",
    done: "Jobs come at a steady rate, and each takes of limits of slots, requests and tokens; then a snapshot that can only read is held.",
    must_hold: "The rate stays within 10 % of what it was before, and jobs start as soon: p99 at most twice as late.",
    run: |case| run(case).boxed_local(),
};

/// Jobs are submitted in groups, so far apart.
const GROUP_EVERY: Duration = Duration::from_millis(50);
const RATE_KEPT: f64 = 0.9;
/// Below this a start is as good as at once, whatever it was before.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("5ms")).await?;
    lab.configure(&configuration(&lab)).await?;
    lab.start_scheduler().await?;
    for _ in 0..2 {
        lab.start_worker(case.pick(20, 100)).await?;
    }
    let store = Store::connect(&StoreOptions::new(lab.cluster.url())).await?;
    let group = case.pick(4, 50);
    let (stop, stopped) = oneshot::channel();
    let submitting = tokio::spawn(submit(store, group, stopped));
    let (calm, held) = (case.pick(8, 120), case.pick(20, 1_800));
    // What is begun cold says nothing.
    sleep(Duration::from_secs(3)).await;

    let before = Span::pass(&lab, Duration::from_secs(calm)).await?;
    let mut snapshot = PgConnection::connect(lab.cluster.url()).await.context("connect for a snapshot")?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM sluice.lanes")
        .execute(&mut snapshot)
        .await
        .context("hold a snapshot")?;
    sleep(Duration::from_secs(held - held / 4)).await;
    // The end of it is the worst of it.
    let during = Span::pass(&lab, Duration::from_secs(held / 4)).await?;
    snapshot.close().await?;

    drop(stop);
    let keys = submitting.await.context("submit jobs")??;
    let mut findings = Findings::default();
    let (calm, burdened) = (before.measured(&lab).await?, during.measured(&lab).await?);
    findings.note(format!("before: {calm}; with the snapshot: {burdened}"));
    findings.demand(burdened.per_second >= calm.per_second * RATE_KEPT, || "the rate fell".to_owned());
    let most = (calm.start_p99 * 2).max(case.bound(AT_ONCE));
    findings.demand(burdened.start_p99 <= most, || "jobs start later".to_owned());
    let told = Told { never_told: keys, ..Told::default() };
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(2)).await?;
    findings.demand_no_repetition(&reckoning);
    Ok(findings.report(case, &reckoning))
}

/// A stretch of time, by the database clock.
struct Span {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

struct Measured {
    per_second: f64,
    start_p99: Duration,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} a second, starts within {:?} (p99)", self.per_second, self.start_p99)
    }
}

impl Span {
    async fn pass(lab: &Lab, time: Duration) -> Result<Self> {
        let from = lab.now().await?;
        sleep(time).await;
        Ok(Self { from, to: lab.now().await? })
    }

    async fn measured(&self, lab: &Lab) -> Result<Measured> {
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sluice.done WHERE finished_at >= $1 AND finished_at < $2",
        )
        .bind(self.from)
        .bind(self.to)
        .fetch_one(lab.pool())
        .await?;
        let waits: Vec<f64> = sqlx::query_scalar(
            "SELECT extract(epoch FROM d.begun_at - j.created_at)::float8
             FROM sluice.done d JOIN sluice.jobs j ON j.id = d.job_id
             WHERE d.begun_at >= $1 AND d.begun_at < $2",
        )
        .bind(self.from)
        .bind(self.to)
        .fetch_all(lab.pool())
        .await?;
        let mut starts = Recovery::default();
        for wait in waits {
            starts = starts.and(Recovery::of(Duration::from_secs_f64(wait.max(0.0))));
        }
        Ok(Measured {
            per_second: ended as f64 / (self.to - self.from).as_seconds_f64(),
            start_p99: starts.percentile(99).unwrap_or_default(),
        })
    }
}

fn configuration(lab: &Lab) -> Value {
    let mut configuration = lab.configuration(&lab.upstream.base_url());
    configuration["limits"] = json!([{
        "account": "sim", "model": "deepseek-flash", "concurrency": 100_000, "requests_per_minute": 100_000_000,
        "tokens_per_minute": 100_000_000_000_u64,
    }]);
    configuration
}

/// Submits groups at the pace until it is stopped; the keys of all jobs.
async fn submit(store: Store, group: usize, mut stopped: oneshot::Receiver<()>) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    let mut ticks = interval(GROUP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(keys),
            _ = ticks.tick() => {}
        }
        let jobs: Vec<NewJob> = (0..group)
            .map(|_| {
                let key = format!("job-{}", keys.len());
                let body = json!({
                    "model": "deepseek-flash", "user": key, "max_tokens": 8,
                    "messages": [{"role": "user", "content": "hello"}],
                });
                keys.insert(key);
                job().body(&body).build()
            })
            .collect();
        store.submit_many(&jobs).await?;
        store.wake_sleepers().await?;
    }
}
