//! Row 6: Postgres is killed (-9, all its processes) under load that keeps every slot busy; once it is back at once,
//! once after five TTLs.

use std::time::Duration;

use anyhow::Result;
use chrono::TimeDelta;
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, rate_between, rate_is_back, until};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 6,
    name: "kill -9 Postgres under load",
    done: "All processes of the server are killed while every slot is busy; it is back at once, and again after 5 TTLs.",
    must_hold: "Nothing acknowledged is lost; no call is repeated; answers in flight are settled; 95 % of the rate ≤ 5 s after.",
    run: |case| run(case).boxed_local(),
};

const WORKERS: usize = 2;
const RATE_BACK_WITHIN: Duration = Duration::from_secs(5);
/// Calls are counted in windows this long.
const WINDOW: Duration = Duration::from_secs(2);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut lab = Lab::start(&case.folder, case.plan("500ms..1500ms")).await?;
    lab.start_scheduler().await?;
    let slots = case.pick(10, 40);
    // Each slot makes a call a second. More comes than they can do, there is a backlog from the beginning, and what
    // comes is enough for both outages.
    let capacity = WORKERS * slots;
    let plan = LoadPlan {
        seed: case.seed,
        per_second: capacity as f64 * 1.3,
        most: capacity * case.pick(38, 100),
        hold_share: 0.05,
    };
    let load = Load::start(&lab, plan)?;
    tokio::time::sleep(case.pick(Duration::from_secs(4), Duration::from_secs(15))).await;
    for _ in 0..WORKERS {
        lab.start_worker(slots).await?;
    }
    lab.brake_is_released(0).await?;
    let mut findings = Findings::default();
    let mut seen_ends = Vec::new();
    for outage in [Duration::ZERO, case.timing().ttl * 5] {
        let steady = case.pick(6, 15);
        tokio::time::sleep(
            Duration::from_secs(steady) + Duration::from_millis(random.random_range(0..1_000)),
        )
        .await;
        seen_ends = lab.ends().await?;
        let killed_at = lab.now().await?;
        lab.cluster.kill().await;
        tokio::time::sleep(outage).await;
        lab.cluster.start_again().await;
        let accepts_at = lab.now().await?;
        let calls = lab.upstream.calls()?;
        let rate = rate_between(&calls, killed_at - TimeDelta::seconds(steady as i64 - 1), killed_at);
        let most = case.bound(RATE_BACK_WITHIN);
        let back = || anyhow::Ok(rate_is_back(&lab.upstream.calls()?, accepts_at, rate * 0.95, WINDOW, most));
        // Whether it came in time is judged below.
        let _ = until("the rate to be back", most + WINDOW, async || Ok(back()?.is_some())).await;
        match back()? {
            Some(after) => findings.recovered(Recovery::of(after)),
            None => findings.demand(false, || {
                format!(
                    "after {outage:?} away, the rate of {rate:.0}/s was not back {most:?} after it accepted"
                )
            }),
        }
        findings.note(format!("{rate:.0} calls/s before {outage:?} away"));
    }
    let told = load.finish().await?;
    let reckoning = lab.reckon(&told, seen_ends, Duration::from_mins(5)).await?;
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.note(format!("{} submits were answered 503 or not at all", told.unknown_answers));
    Ok(findings.report(case, &reckoning))
}
