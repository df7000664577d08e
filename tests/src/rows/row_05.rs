//! Row 5: Postgres is stopped (SIGSTOP) for a minute under load: connections hang and nobody can beat.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, until};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 5,
    name: "SIGSTOP Postgres for 60 s",
    done: "All processes of the server are stopped for 60 s under load, and go on.",
    must_hold: "No call is repeated; no lease is lost; clients are answered and not kept hanging.",
    run: |case| run(case).boxed_local(),
};

/// Longer than this no client is kept waiting for an answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(9);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("500ms..2s")).await?;
    lab.start_scheduler().await?;
    for _ in 0..2 {
        lab.start_worker(case.pick(20, 50)).await?;
    }
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(10.0, 30.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    for at in 0..2 {
        lab.worker_holds(at, case.pick(3, 10)).await?;
    }
    let seen_ends = lab.ends().await?;
    lab.cluster.pause();
    tokio::time::sleep(case.pick(lab.timing.ttl * 3, Duration::from_mins(1))).await;
    lab.cluster.resume();
    let resumed_at = lab.now().await?;
    let calls_before = lab.upstream.calls()?.len();
    until("calls to begin again", Duration::from_mins(1), async || {
        Ok(lab.upstream.calls()?.len() > calls_before)
    })
    .await?;
    let again_after = (lab.now().await? - resumed_at).to_std()?;
    tokio::time::sleep(lab.timing.ttl * 2).await;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, seen_ends, Duration::from_mins(3)).await?;
    let mut findings = Findings::default();
    findings.recovered(Recovery::of(again_after));
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.demand(told.slowest_refusal < case.bound(ANSWERED_WITHIN), || {
        format!("a submit was answered only after {:?}", told.slowest_refusal)
    });
    findings.note(format!("{} submits were answered 503 or not at all", told.unknown_answers));
    Ok(findings.report(case, &reckoning))
}
