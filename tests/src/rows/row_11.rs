//! Row 11: the upstream fails with 500, 502, 503 and 529, first a fifth of its calls, then each of them; then it is healed.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, until};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 11,
    name: "500/502/503/529 at 20 % and 100 %",
    done: "A fifth of the calls fail, under load; then each call fails while new jobs wait, for three windows; then none.",
    must_hold: "At 20 % all succeed with ten tries; at 100 % at most 1.1 calls per job and window; a probe closes the breaker again.",
    run: |case| run(case).boxed_local(),
};

const KINDS: [&str; 4] = ["http_500", "http_502", "http_503", "http_529"];
/// Windows that total failure lasts for.
const WINDOWS: i32 = 3;
/// Calls per job in a window, at most.
const MOST_PER_JOB: f64 = 1.1;

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("50ms")).await?;
    let window = case.pick(Duration::from_secs(4), Duration::from_mins(1));
    let mut configuration = lab.configuration(&lab.upstream.base_url());
    configuration["breaker"] = json!({ "reset_timeout": format!("{}s", window.as_secs()) });
    lab.configure(&configuration).await?;
    lab.start_scheduler().await?;
    for _ in 0..case.pick(2, 4) {
        lab.start_worker(case.pick(10, 40)).await?;
    }
    let mut findings = Findings::default();

    lab.upstream.change(&faults(0.2)).await?;
    let most = case.pick(60, 1_000);
    let plan = LoadPlan { seed: case.seed, per_second: case.pick(30.0, 50.0), most, hold_share: 0.0 };
    let mut told = Load::start(&lab, plan)?.finish().await?;
    until("all jobs to end at 20 %", case.bound(Duration::from_mins(5)), async || {
        Ok(lab.unrested().await? == 0)
    })
    .await?;
    let unhappy = ended_otherwise(&lab).await?;
    findings.demand(unhappy == 0, || format!("{unhappy} jobs did not succeed at 20 %"));

    lab.upstream.change(&faults(1.0)).await?;
    let failing_since = lab.now().await?;
    let most = case.pick(60, 400);
    let plan = LoadPlan { seed: case.seed + 1, per_second: 200.0, most, hold_share: 0.0 };
    told.add(Load::start(&lab, plan)?.finish().await?);
    tokio::time::sleep(window * WINDOWS as u32).await;
    for number in 0..WINDOWS {
        let from = failing_since + window * number as u32;
        let calls = calls_between(&lab, from, from + window)?;
        findings.demand(calls as f64 <= MOST_PER_JOB * most as f64, || {
            format!("{calls} calls in window {number} for {most} jobs")
        });
        findings.note(format!("window {number}: {calls} calls for {most} jobs"));
    }

    lab.upstream.change(&faults(0.0)).await?;
    let healed_at = lab.now().await?;
    until("the breaker to close", case.bound(window + Duration::from_secs(10)), async || {
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sluice.breakers").fetch_one(lab.pool()).await?;
        Ok(open == 0)
    })
    .await?;
    findings.recovered(Recovery::of((lab.now().await? - healed_at).to_std()?));
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    let unhappy = ended_otherwise(&lab).await?;
    findings.demand(unhappy == 0, || format!("{unhappy} jobs did not succeed"));
    findings.demand_no_repetition(&reckoning);
    Ok(findings.report(case, &reckoning))
}

/// Faults that strike so large a share of the calls, each kind alike.
fn faults(share: f64) -> Value {
    let probability = share / KINDS.len() as f64;
    let rules: Vec<_> = KINDS.iter().map(|kind| json!({"kind": kind, "probability": probability})).collect();
    json!({ "faults": if share > 0.0 { rules } else { Vec::new() } })
}

fn calls_between(lab: &Lab, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<usize> {
    let calls = lab.upstream.calls()?;
    Ok(calls.iter().filter(|call| (from..to).contains(&call.arrived_at)).count())
}

/// Jobs that have ended, and not by a success.
async fn ended_otherwise(lab: &Lab) -> Result<i64> {
    let count = "SELECT count(*) FROM sluice.done WHERE state <> 'succeeded'";
    Ok(sqlx::query_scalar(count).fetch_one(lab.pool()).await?)
}
