//! Row 24: the workers' processor is saturated. They are held on one processor together with many busy processes of
//! a higher priority; a stand-in for a machine that has ten times too much to do.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use futures::FutureExt;
use sluice_domain::Outcome;
use tokio::process::{Child, Command};

use super::{Case, Findings, Report, Row};
use crate::{
    lab::{Lab, Load, LoadPlan},
    processes::Start,
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 24,
    name: "workers' CPUs saturated",
    done: "Two workers share one processor with 16 busy processes of a higher priority, for 10 minutes (10 s in small).",
    must_hold: "No beat comes so late that a lease is lost; no call is repeated.",
    run: |case| run(case).boxed_local(),
};

const BUSY: usize = 16;
/// The processor that is saturated.
const PROCESSOR: &str = "0";
/// The busy ones make way for the rest of the machine, and the workers for them.
const BUSY_NICE: &str = "5";
const WORKER_NICE: &str = "10";

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    if !are_there(&["taskset", "nice"]).await {
        return Ok(Report::skipped(case, "taskset and nice are not on this machine"));
    }
    let mut lab = Lab::start(&case.folder, case.plan("300ms..1s")).await?;
    lab.start_scheduler().await?;
    let launcher = ["nice", "-n", WORKER_NICE, "taskset", "-c", PROCESSOR];
    for _ in 0..2 {
        lab.start_worker_as(case.pick(10, 40), Start { launcher: &launcher, ..Start::default() }).await?;
    }
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(10.0, 40.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    for at in 0..2 {
        lab.worker_holds(at, case.pick(2, 5)).await?;
    }
    let busy: Vec<Child> = (0..BUSY).map(|_| keep_busy()).collect::<Result<_>>()?;
    let ended_before = lab.ended().await?;
    tokio::time::sleep(case.pick(Duration::from_secs(10), Duration::from_mins(10))).await;
    let ended_meanwhile = lab.ended().await? - ended_before;
    // They are killed with the values.
    drop(busy);
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(5)).await?;

    let mut findings = Findings::default();
    let lost =
        reckoning.history.attempts.iter().filter(|attempt| attempt.outcome == Some(Outcome::Lost)).count();
    findings.demand(lost == 0, || format!("{lost} false rescues"));
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.note(format!("{ended_meanwhile} jobs ended meanwhile"));
    Ok(findings.report(case, &reckoning))
}

/// A process that does nothing but use the processor.
fn keep_busy() -> Result<Child> {
    let mut command = Command::new("nice");
    command.args(["-n", BUSY_NICE, "taskset", "-c", PROCESSOR, "sh", "-c", "while :; do :; done"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().context("start a busy process")
}

async fn are_there(programs: &[&str]) -> bool {
    for program in programs {
        let looked =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !looked.await.is_ok_and(|status| status.success()) {
            return false;
        }
    }
    true
}
