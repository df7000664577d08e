//! Row 25: one tenant has a million jobs at the highest priority, others trickle at the lowest.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt;
use serde_json::json;
use sluice_domain::{JobId, NewJob};
use sluice_store::{Store, StoreOptions};
use sluice_testkit::job;
use tokio::time::{MissedTickBehavior, interval};

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{Lab, Recovery, Told, until},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 25,
    name: "one tenant with a million jobs",
    done: "A tenant has a million jobs waiting at the highest priority, and all slots are taken by them; four others submit two jobs a second each at the lowest.",
    must_hold: "The others' jobs start within a second (p99), however many wait before them.",
    run: |case| run(case).boxed_local(),
};

const OTHERS: usize = 4;
/// Between two jobs of each of the others.
const TRICKLE: Duration = Duration::from_millis(500);
/// With calls of 200 ms a slot falls free each few milliseconds, and each of the others is owed the next but four.
const START_WITHIN: Duration = Duration::from_secs(1);
/// Jobs of one submit.
const GROUP: usize = 1_000;

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("200ms")).await?;
    lab.start_scheduler().await?;
    let store = Store::connect(&StoreOptions::new(lab.cluster.url())).await?;
    let mut told = Told::default();
    for group in 0..case.pick(5, 1_000) {
        let jobs: Vec<NewJob> = (0..GROUP).map(|number| of("big", group * GROUP + number, 5)).collect();
        // They are called or not: nobody waits for the last of them here.
        told.never_told.extend((0..GROUP).map(|number| key("big", group * GROUP + number)));
        store.submit_many(&jobs).await?;
    }
    for _ in 0..case.pick(2, 3) {
        lab.start_worker(case.pick(10, 40)).await?;
    }
    let running = "SELECT count(*) FROM sluice.running";
    let slots = case.pick(20_i64, 120);
    until("all slots to be taken", Duration::from_mins(1), async || {
        Ok(sqlx::query_scalar::<_, i64>(running).fetch_one(lab.pool()).await? >= slots)
    })
    .await?;

    let mut ticks = interval(TRICKLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut trickled: Vec<JobId> = Vec::new();
    for number in 0..case.pick(20, 240) {
        ticks.tick().await;
        let jobs: Vec<NewJob> = (0..OTHERS).map(|other| of(&format!("other-{other}"), number, 1)).collect();
        store.submit_many(&jobs).await?;
        for (other, job) in jobs.iter().enumerate() {
            trickled.push(job.id);
            let key = key(&format!("other-{other}"), number);
            told.acknowledged.push(Acknowledged { key, job_id: job.id, when_unknown: WhenUnknown::Repeat });
        }
    }
    until("the others' jobs to end", case.bound(Duration::from_mins(1)), async || {
        Ok(store.jobs_ended_among(&trickled).await?.len() == trickled.len())
    })
    .await?;

    let mut findings = Findings::default();
    let mut starts = Recovery::default();
    for took in starts_of(&lab, &trickled).await? {
        starts = starts.and(Recovery::of(took));
    }
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.ready").fetch_one(lab.pool()).await?;
    findings.demand(waiting > 0, || "the large tenant ran out of jobs: nothing was proved".to_owned());
    findings.note(format!(
        "{} jobs of the others started, {waiting} of the large one's still wait",
        starts.count()
    ));
    findings.recovered(starts);
    findings.demand_recovered_within(case.bound(START_WITHIN));
    // What waits is left: it would take hours.
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_millis(1)).await?;
    Ok(findings.report(case, &reckoning))
}

fn key(tenant: &str, number: usize) -> String {
    format!("{tenant}-{number}")
}

fn of(tenant: &str, number: usize, priority: i64) -> NewJob {
    let body = json!({
        "model": "deepseek-flash", "user": key(tenant, number), "max_tokens": 8,
        "messages": [{"role": "user", "content": "hello"}],
    });
    job().tenant(tenant).priority(priority).body(&body).build()
}

/// How long each job could have run before it was first leased.
async fn starts_of(lab: &Lab, jobs: &[JobId]) -> Result<Vec<Duration>> {
    let ids: Vec<_> = jobs.iter().map(|job| job.as_uuid()).collect();
    let waits: Vec<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM min(b.begun_at) - j.created_at)::float8
         FROM sluice.jobs j JOIN sluice.attempts_begun b ON b.job_id = j.id
         WHERE j.id = ANY ($1) GROUP BY j.id, j.created_at",
    )
    .bind(ids)
    .fetch_all(lab.pool())
    .await
    .context("read when jobs began")?;
    Ok(waits.into_iter().map(|seconds| Duration::from_secs_f64(seconds.max(0.0))).collect())
}
