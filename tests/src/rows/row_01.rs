//! Row 1: two workers are killed mid-call. The lock file of one is taken away first, so that its death shows by its
//! beat alone, as on another host; the other is known dead by its free lock.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, until};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 1,
    name: "SIGKILL a worker mid-call",
    done: "Two of four workers are killed under load: one whose lock file can be seen, one whose can't.",
    must_hold: "No job is lost; repeated calls ≤ calls in flight on the killed; their jobs run again within 19 s (p99).",
    run: |case| run(case).boxed_local(),
};

const WORKERS: usize = 4;

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut lab = Lab::start(&case.folder, case.plan("1s..2s")).await?;
    lab.start_scheduler().await?;
    for _ in 0..WORKERS {
        lab.start_worker(case.pick(20, 60)).await?;
    }
    lab.brake_is_released(0).await?;
    // Enough to keep every worker busy, and so little that the others have room for what comes back.
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(12.0, 50.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    let mut kills = Vec::new();
    for (at, said) in [(0, "by its beat"), (1, "known dead")] {
        lab.worker_holds(at, case.pick(2, 8)).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        if at == 0 {
            lab.forget_lock_file(at).await?;
        }
        let killed_at = lab.now().await?;
        lab.kill_worker(at).await?;
        let leases = lab.leases_of(at).await?;
        until("the leases of a killed worker to end", case.timing().ttl * 4, async || {
            Ok(lab.leases_of(at).await?.is_empty())
        })
        .await?;
        kills.push((said, killed_at, leases));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(2)).await?;
    let mut findings = Findings::default();
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    let mut in_flight = 0;
    for (said, killed_at, leases) in &kills {
        in_flight += leases.len();
        let recovery = Recovery::of_leases(leases, *killed_at, &reckoning.history.attempts);
        findings.note(format!(
            "{said}: {} leases, {} ran again, p99 {:?}",
            leases.len(),
            recovery.count(),
            recovery.percentile(99).unwrap_or_default(),
        ));
        findings.recovered(recovery);
    }
    findings.demand(reckoning.figures.repeated <= in_flight, || {
        format!("{} repeated calls, and only {in_flight} were in flight", reckoning.figures.repeated)
    });
    findings.demand_recovered_within(case.bound(case.timing().rescue()));
    Ok(findings.report(case, &reckoning))
}
