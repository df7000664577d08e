//! Row 10: a wrong key (401), no money (402, `insufficient_quota`), and a model that the key may not call (403).

use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt;
use serde_json::json;

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{Lab, Told, until},
    processes::Process,
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 10,
    name: "401, 402, insufficient_quota; 403",
    done: "Jobs wait; each call is refused in one of these ways, by two upstreams in turn; then it is mended, and somebody resumes what was paused.",
    must_hold: "After the first refusals no call on that key or account until it is resumed; jobs wait and do not fail; an alert. Each 403 fails its job; five in a row pause the model there, and no other.",
    run: |case| run(case).boxed_local(),
};

/// What is refused, what that pauses, and how it is resumed.
struct Refusal {
    fault: &'static str,
    kind: &'static str,
    name: &'static str,
    resume: [&'static str; 2],
}

const REFUSALS: [Refusal; 3] = [
    Refusal { fault: "http_401", kind: "upstream", name: "sim", resume: ["--upstream", "sim"] },
    Refusal { fault: "http_402", kind: "account", name: "main", resume: ["--account", "main"] },
    Refusal { fault: "insufficient_quota", kind: "account", name: "main", resume: ["--account", "main"] },
];
/// So many 403 in a row pause a model, by what one worker has met.
const FORBIDDEN_IN_A_ROW: i64 = 5;

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("50ms")).await?;
    let mut configuration = lab.configuration(&lab.upstream.base_url());
    configuration["upstreams"][0]["account"] = json!("main");
    lab.configure(&configuration).await?;
    lab.start_scheduler().await?;
    let (workers, slots): (usize, usize) = (case.pick(2, 4), case.pick(5, 20));
    for _ in 0..workers {
        lab.start_worker(slots).await?;
    }
    let mut findings = Findings::default();
    let mut told = Told::default();
    for refusal in &REFUSALS {
        refused(&lab, case, refusal, &mut told, workers * slots, &mut findings).await?;
    }
    forbidden(&lab, case, &mut told, workers as i64, slots as i64, &mut findings).await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(2)).await?;
    findings.demand_no_repetition(&reckoning);
    Ok(findings.report(case, &reckoning))
}

async fn refused(
    lab: &Lab,
    case: &Case,
    refusal: &Refusal,
    told: &mut Told,
    slots: usize,
    findings: &mut Findings,
) -> Result<()> {
    let Refusal { fault, kind, name, resume } = *refusal;
    let known = lab.upstream.calls()?.len();
    change(lab, Some(fault)).await?;
    let jobs = case.pick(30, 200);
    submit(lab, fault, "deepseek-flash", jobs, told).await?;
    is_paused(lab, kind, name).await.with_context(|| fault.to_owned())?;
    // Longer than a beat, a poll and a retry.
    tokio::time::sleep(lab.timing.beat() + Duration::from_secs(3)).await;
    let calls = lab.upstream.calls()?.len() - known;
    findings.note(format!("{fault}: {calls} calls before all knew"));
    findings.demand(calls <= slots, || format!("{fault}: {calls} calls, and {slots} slots"));
    let (waiting, failed) = standing(lab, fault).await?;
    findings.demand(failed == 0 && waiting == jobs as i64, || {
        format!("{fault}: {failed} jobs failed, {waiting} of {jobs} wait")
    });
    tokio::time::sleep(Duration::from_secs(case.pick(2, 20))).await;
    let later = lab.upstream.calls()?.len() - known;
    findings.demand(later == calls, || format!("{fault}: {} more calls while paused", later - calls));
    findings.demand(is_told(lab), || format!("{fault}: nobody was told"));
    change(lab, None).await?;
    let arguments = ["resume", resume[0], resume[1]];
    Process::run(lab.folder(), &arguments, &lab.variables).await.context("resume")?;
    until("all jobs to end", case.bound(Duration::from_mins(1)), async || Ok(lab.unrested().await? == 0))
        .await?;
    let (_, failed) = standing(lab, fault).await?;
    findings.demand(failed == 0, || format!("{fault}: {failed} jobs failed in the end"));
    Ok(())
}

async fn forbidden(
    lab: &Lab,
    case: &Case,
    told: &mut Told,
    workers: i64,
    slots: i64,
    findings: &mut Findings,
) -> Result<()> {
    let rule = json!({"kind": "http_403", "probability": 1.0, "model": "deepseek-flash"});
    lab.upstream.change(&json!({ "faults": [rule] })).await?;
    let jobs = case.pick(100, 400);
    submit(lab, "http_403", "deepseek-flash", jobs, told).await?;
    is_paused(lab, "model", "sim deepseek-flash").await?;
    tokio::time::sleep(lab.timing.beat() + Duration::from_secs(3)).await;
    let (waiting, failed) = standing(lab, "http_403").await?;
    // Each worker counts for itself, and what is under way when it is paused fails, too.
    let most = workers * (FORBIDDEN_IN_A_ROW - 1 + slots);
    findings.demand((FORBIDDEN_IN_A_ROW..=most).contains(&failed) && waiting == jobs as i64 - failed, || {
        format!("http_403: {failed} jobs failed, {waiting} of {jobs} wait")
    });
    findings.note(format!("http_403: {failed} jobs failed before it was paused"));
    submit(lab, "other-model", "deepseek-v4-pro", 10, told).await?;
    until("another model to be called", case.bound(Duration::from_secs(20)), async || {
        Ok(standing(lab, "other-model").await? == (0, 0))
    })
    .await?;
    change(lab, None).await?;
    Process::run(lab.folder(), &["resume", "--upstream", "sim"], &lab.variables).await.context("resume")?;
    until("all jobs to end", case.bound(Duration::from_mins(1)), async || Ok(lab.unrested().await? == 0))
        .await
}

async fn change(lab: &Lab, fault: Option<&str>) -> Result<()> {
    let rules: Vec<_> = fault.iter().map(|kind| json!({"kind": kind, "probability": 1.0})).collect();
    lab.upstream.change(&json!({ "faults": rules })).await
}

async fn submit(lab: &Lab, name: &str, model: &str, jobs: usize, told: &mut Told) -> Result<()> {
    let client = reqwest::Client::new();
    let url = format!("{}/v1/jobs", lab.schedulers[0].url);
    for number in 0..jobs {
        let key = format!("{name}-{number}");
        let body = json!({
            "body": {"model": model, "user": key, "max_tokens": 16, "messages": [{"role": "user", "content": key}]},
            "idempotency_key": key, "tags": {"fault": name},
        });
        let answer = client.post(&url).json(&body).send().await?.error_for_status()?;
        let job: serde_json::Value = answer.json().await?;
        let job_id = job["id"].as_str().context("find an id")?.parse()?;
        told.acknowledged.push(Acknowledged { key, job_id, when_unknown: WhenUnknown::Repeat });
    }
    Ok(())
}

async fn is_paused(lab: &Lab, kind: &str, name: &str) -> Result<()> {
    let question = "SELECT count(*) FROM sluice.pauses WHERE kind = $1 AND name = $2";
    until("a pause", Duration::from_secs(30), async || {
        let paused: i64 = sqlx::query_scalar(question).bind(kind).bind(name).fetch_one(lab.pool()).await?;
        Ok(paused == 1)
    })
    .await
}

/// How many of the jobs that were submitted for a fault wait, and how many have failed.
async fn standing(lab: &Lab, fault: &str) -> Result<(i64, i64)> {
    let counts = "
        SELECT count(*) FILTER (WHERE d.job_id IS NULL), count(*) FILTER (WHERE d.state = 'failed')
        FROM sluice.jobs j LEFT JOIN sluice.done d ON d.job_id = j.id
        WHERE j.tags ->> 'fault' = $1";
    Ok(sqlx::query_as(counts).bind(fault).fetch_one(lab.pool()).await?)
}

/// Whether some worker says, as an error, that a person should look.
fn is_told(lab: &Lab) -> bool {
    lab.workers.iter().any(|worker| worker.process.log().contains("a person should look"))
}
