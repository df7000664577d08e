//! Row 21: jobs whose answers bring down whatever works on them, among jobs that don't. The faults are ordered from a
//! program that was built with the feature `failpoints`: a panic, an abort, a stack that overflows, a loop without end,
//! memory without end. An answer of 100 MB needs no order.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};
use sluice_domain::JobId;
use sqlx::Row as _;
use uuid::Uuid;

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{Lab, Told},
    processes::faults_can_be_ordered,
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 21,
    name: "poison: panic, abort, overflow, endless, memory, 100 MB",
    done: "Jobs that crash what works on them stand among others; two workers run, and are started again as they end.",
    must_hold: "Each poison is held after three crashes; all others succeed, and none of them is held.",
    run: |case| run(case).boxed_local(),
};

const WORKERS: usize = 2;
/// What a poison does when its answer has come.
const POISONS: [&str; 5] = ["panic", "abort", "overflow", "endless", "memory"];
/// What a job with an answer of 100 MB is called.
const LARGE: &str = "large";

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    if !faults_can_be_ordered()? {
        return Ok(Report::skipped(case, "sluice was built without the feature failpoints"));
    }
    let mut lab = Lab::start(&case.folder, case.plan("200ms..1s")).await?;
    let stuck_after = case.pick(Duration::from_secs(3), case.timing().ttl * 2);
    let faults = format!("attempt-poison=return;stuck-after=return({})", stuck_after.as_millis());
    lab.start_scheduler().await?;
    lab.variables.push(("FAILPOINTS", faults));
    let told = submit(&lab, &jobs(case)).await?;
    let ended = work(&mut lab, case, told.acknowledged.len()).await?;
    lab.drain_workers(Duration::from_mins(1)).await?;
    for worker in &mut lab.workers {
        // Answers die with the processes that crash by them, whether these are workers or their children.
        worker.was_killed = true;
    }
    let ends = ends(&lab).await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(1)).await?;

    let mut findings = Findings::default();
    for told in &told.acknowledged {
        let expected = match told.key.split('-').next().unwrap_or_default() {
            LARGE => End { state: "failed", reason: "oversized_answer".to_owned(), crashes: None },
            word if POISONS.contains(&word) => {
                End { state: "held", reason: "poison".to_owned(), crashes: Some(3) }
            }
            _ => End { state: "succeeded", reason: String::new(), crashes: None },
        };
        let end = ends.get(&told.job_id);
        findings.demand(end.is_some_and(|end| end.is(&expected)), || {
            format!("{} should have come to {expected:?} and is {end:?}", told.key)
        });
    }
    findings.note(format!("{ended} workers ended and were started again"));
    Ok(findings.report(case, &reckoning))
}

/// What is submitted: names, and prompts that order a fault.
fn jobs(case: &Case) -> Vec<(String, String)> {
    let mut jobs: Vec<(String, String)> = (0..case.pick(60, 600))
        .map(|number| (format!("innocent-{number}"), format!("What is {number} times two?")))
        .collect();
    for number in 0..case.pick(1, 3) {
        let poison = |word: &&str| (format!("{word}-{number}"), format!("hello [[poison:{word}]]"));
        jobs.extend(POISONS.iter().map(poison));
        jobs.push((format!("{LARGE}-{number}"), "hello [[sim:body_10mb bytes=100000000]]".to_owned()));
    }
    jobs.shuffle(&mut StdRng::seed_from_u64(case.seed));
    jobs
}

async fn submit(lab: &Lab, jobs: &[(String, String)]) -> Result<Told> {
    let line = |(key, prompt): &(String, String)| {
        json!({"body": {"model": "deepseek-flash", "user": key, "max_tokens": 16,
                        "messages": [{"role": "user", "content": prompt}]}, "idempotency_key": key})
        .to_string()
    };
    let body = jobs.iter().map(line).collect::<Vec<_>>().join("\n");
    let url = format!("{}/v1/jobs/bulk", lab.schedulers[0].url);
    let answer = reqwest::Client::new().post(url).body(body).send().await?.error_for_status()?.text().await?;
    let mut told = Told::default();
    for ((key, _), line) in jobs.iter().zip(answer.lines()) {
        let id =
            serde_json::from_str::<Value>(line)?["id"].as_str().context("a submit was refused")?.parse()?;
        let when_unknown = WhenUnknown::Repeat;
        told.acknowledged.push(Acknowledged { key: key.clone(), job_id: id, when_unknown });
    }
    ensure!(told.acknowledged.len() == jobs.len(), "not all submits were answered");
    Ok(told)
}

/// Has workers run, started again as they end, until all jobs have come to rest. Says how many ended.
async fn work(lab: &mut Lab, case: &Case, jobs: usize) -> Result<usize> {
    let slots = case.pick(20, 60);
    let grace = ["--grace", "2s"];
    let mut running = Vec::new();
    let mut ended = 0;
    let begun = std::time::Instant::now();
    while lab.unrested().await? > 0 {
        let most = Duration::from_secs(case.pick(180, 900));
        ensure!(begun.elapsed() < most, "{jobs} jobs did not come to rest within {most:?}");
        running.retain(|at: &usize| {
            let has_ended = lab.workers[*at].process.ended().is_ok_and(|status| status.is_some());
            ended += usize::from(has_ended);
            !has_ended
        });
        while running.len() < WORKERS {
            let more = crate::processes::Start { arguments: &grace, ..Default::default() };
            running.push(lab.start_worker_as(slots, more).await?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (at, worker) in lab.workers.iter_mut().enumerate() {
        worker.was_killed = !running.contains(&at);
    }
    Ok(ended)
}

/// Where a job came to rest.
#[derive(Debug)]
struct End {
    state: &'static str,
    reason: String,
    crashes: Option<i16>,
}

impl End {
    fn is(&self, expected: &Self) -> bool {
        self.state == expected.state
            && self.reason == expected.reason
            && expected.crashes.is_none_or(|crashes| self.crashes == Some(crashes))
    }
}

async fn ends(lab: &Lab) -> Result<BTreeMap<JobId, End>> {
    let rows = sqlx::query(
        "SELECT job_id, state::text, coalesce(error_class, ''), crashes FROM sluice.done
         UNION ALL SELECT job_id, 'held', reason::text, crashes FROM sluice.held",
    )
    .fetch_all(lab.pool())
    .await?;
    let end = |row: &sqlx::postgres::PgRow| -> Result<(JobId, End)> {
        let state = match row.try_get::<String, _>(1)?.as_str() {
            "succeeded" => "succeeded",
            "failed" => "failed",
            "held" => "held",
            _ => "another",
        };
        let end = End { state, reason: row.try_get(2)?, crashes: row.try_get(3)? };
        Ok((JobId::from_uuid(row.try_get::<Uuid, _>(0)?), end))
    };
    rows.iter().map(end).collect()
}
