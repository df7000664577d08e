//! Schedulers that end at a crash point: the only one there is, so that nobody else does its work meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sluice_domain::JobId;
use sluice_store::CrashPoint;

use super::{Order, ROUNDS, load};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{Lab, Load, Told},
    rows::{Case, Findings, Report},
};

const SLOTS: usize = 30;
/// How long a scheduler may take to its point, once it was brought there: jobs past their deadline are looked for each
/// 10 s.
const A_WHILE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(10);
/// The queue of jobs whose deadline passes.
const OVERDUE: &str = "overdue";

/// Runs the row for a point of schedulers.
pub(super) async fn run(case: &Case, order: &Order) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("150ms..300ms")).await?;
    lab.start_worker(SLOTS).await?;
    let victim = lab.spawn_scheduler(&[order.variable()])?;
    let load = Load::start(&lab, load(case))?;
    let mut told = Told::default();
    bring_to_its_point(&mut lab, order, &mut told).await?;
    let status = lab.schedulers[victim].process.wait_for_end(A_WHILE).await?;
    order.check_end(status)?;
    lab.start_scheduler_again(victim).await?;
    if matches!(order.point, CrashPoint::Cancelled | CrashPoint::Replayed) {
        ask_again(&lab, &told).await.context("ask again")?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let by_load = load.stop().await?;
    ensure!(by_load.failed.is_empty(), "{} submits were refused", by_load.failed.len());
    told.acknowledged.extend(by_load.acknowledged);
    told.never_told.extend(by_load.never_told);
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    Ok(order.report(case, Findings::default(), &reckoning))
}

/// Brings the scheduler to its point, where work alone doesn't, and waits until it has ended.
async fn bring_to_its_point(lab: &mut Lab, order: &Order, told: &mut Told) -> Result<()> {
    for round in 0..ROUNDS {
        match order.point {
            CrashPoint::Reaped => {
                lab.brake_is_released(0).await?;
                lose_worker(lab, Lock::Forgotten).await?;
            }
            CrashPoint::IncarnationEnded | CrashPoint::LeasesExpired => lose_worker(lab, Lock::Free).await?,
            CrashPoint::DeadlinesEnded => {
                // So short a time that no worker leases it, in a queue that none looks at: a worker that sees
                // overdue jobs and nothing else ends them itself.
                lab.scheduler_is_ready(0).await;
                pause(lab, OVERDUE).await?;
                let run_at = after(TimeDelta::seconds(2));
                let times = json!({
                    "run_at": run_at, "deadline": run_at + TimeDelta::milliseconds(1), "queue": OVERDUE
                });
                submit(lab, told, &format!("overdue-{round}"), &times).await?;
            }
            CrashPoint::Cancelled | CrashPoint::Replayed => {
                submit(lab, told, &format!("cancelled-{round}"), &json!({})).await?;
                // It ends in the middle.
                let _ = cancel_and_replay(lab, told).await;
            }
            _ => {}
        }
        if lab.schedulers[0].process.wait_for_end(A_WHILE).await.is_ok() {
            return Ok(());
        }
    }
    bail!("the scheduler did not come to {} in {ROUNDS} rounds", order.point.name())
}

/// What a killed worker's lock file tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    Free,
    Forgotten,
}

/// Kills a worker that holds leases, and starts another one.
async fn lose_worker(lab: &mut Lab, lock: Lock) -> Result<()> {
    let at = lab.start_worker(SLOTS).await?;
    lab.worker_holds(at, 2).await?;
    if lock == Lock::Forgotten {
        lab.forget_lock_file(at).await?;
    }
    lab.kill_worker(at).await
}

/// Submits a job that is due in an hour, so that it is called only after a replay.
async fn submit(lab: &mut Lab, told: &mut Told, key: &str, more: &Value) -> Result<()> {
    lab.scheduler_is_ready(0).await;
    let mut body = json!({
        "body": {"model": "deepseek-flash", "user": key, "messages": [{"role": "user", "content": "hello"}]},
        "idempotency_key": key,
        "run_at": after(TimeDelta::hours(1)),
    });
    let (Value::Object(all), Value::Object(more)) = (&mut body, more) else { bail!("both are objects") };
    all.extend(more.clone());
    let answer = client()?.post(format!("{}/v1/jobs", lab.schedulers[0].url)).json(&body).send().await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    let job_id: JobId = answer["id"].as_str().context("a submit without an id")?.parse()?;
    told.acknowledged.push(Acknowledged { key: key.to_owned(), job_id, when_unknown: WhenUnknown::Repeat });
    Ok(())
}

async fn pause(lab: &Lab, queue: &str) -> Result<()> {
    let url = format!("{}/v1/queues/{queue}/pause", lab.schedulers[0].url);
    client()?.post(url).json(&json!({})).send().await?.error_for_status().context("pause a queue")?;
    Ok(())
}

/// Cancels all jobs that were submitted here, and starts them again. What is so already is no error.
async fn cancel_and_replay(lab: &Lab, told: &Told) -> Result<()> {
    for job in &told.acknowledged {
        ask(lab, job.job_id, &["cancel", "replay"]).await?;
    }
    Ok(())
}

/// Whoever was not told looks what became of it, and asks for the rest: what was replayed must not be replayed again.
async fn ask_again(lab: &Lab, told: &Told) -> Result<()> {
    for job in &told.acknowledged {
        let url = format!("{}/v1/jobs/{}", lab.schedulers[0].url, job.job_id);
        let shown: Value = client()?.get(url).send().await?.error_for_status()?.json().await?;
        match (shown["generation"].as_u64(), shown["state"].as_str()) {
            (Some(1), Some("cancelled")) => ask(lab, job.job_id, &["replay"]).await?,
            (Some(1), _) => ask(lab, job.job_id, &["cancel", "replay"]).await?,
            _ => {}
        }
    }
    Ok(())
}

async fn ask(lab: &Lab, job: JobId, acts: &[&str]) -> Result<()> {
    for act in acts {
        let url = format!("{}/v1/jobs/{job}/{act}", lab.schedulers[0].url);
        let status = client()?.post(url).json(&json!({})).send().await?.status();
        ensure!(status.is_success() || status.as_u16() == 409, "{act} was answered with {status}");
    }
    Ok(())
}

/// So long from now.
#[expect(clippy::disallowed_methods, reason = "the database of the lab has this machine's clock")]
fn after(delay: TimeDelta) -> DateTime<Utc> {
    Utc::now() + delay
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().context("make a client")
}
