//! Row 2: workers are told to end (SIGTERM) under load, one after the other, as a deploy does; each is replaced.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_domain::Outcome;

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 2,
    name: "SIGTERM a worker (deploy)",
    done: "Under load, workers with leases fetched ahead are asked to end one after the other, each replaced by a new one.",
    must_hold: "No call is repeated or unknown; unsent leases are handed back within 1 s; calls in flight end within the grace.",
    run: |case| run(case).boxed_local(),
};

/// The workers' default.
const GRACE: Duration = Duration::from_secs(30);
const HAND_BACK: Duration = Duration::from_secs(1);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    // Most calls are short, so that workers fetch ahead; some are long, so that there is something to wait for.
    let mut lab = Lab::start(&case.folder, case.plan("100ms/4s")).await?;
    lab.start_scheduler().await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(45.0, 140.0), most: usize::MAX, hold_share: 0.1 };
    let load = Load::start(&lab, plan)?;
    let slots = case.pick(8, 20);
    for _ in 0..2 {
        lab.start_worker(slots).await?;
    }
    let mut findings = Findings::default();
    let mut handed_back = 0;
    for round in 0..case.pick(2, 6) {
        tokio::time::sleep(Duration::from_millis(random.random_range(1_500..4_000))).await;
        // More than there are slots: some are not sent yet.
        lab.worker_holds(round, slots + 1).await?;
        let asked_at = lab.now().await?;
        lab.workers[round].process.ask_to_end()?;
        lab.start_worker(slots).await?;
        let ended = lab.workers[round].process.wait_for_end(GRACE + Duration::from_secs(10)).await?;
        let ended_at = lab.now().await?;
        findings.demand(ended.success(), || format!("worker-{round} ended with {ended}"));
        findings.demand(ended_at - asked_at <= chrono::TimeDelta::seconds(31), || {
            format!("worker-{round} took {} ms to end", (ended_at - asked_at).num_milliseconds())
        });
        let lives = lab.lives_of(round).await?;
        for attempt in lab.attempts().await?.iter().filter(|attempt| lives.contains(&attempt.incarnation)) {
            let Some(ended_at) = attempt.ended_at else { continue };
            if attempt.outcome == Some(Outcome::NotSent) && ended_at > asked_at {
                handed_back += 1;
                findings.recovered(Recovery::of((ended_at - asked_at).to_std()?));
            }
        }
    }
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    findings.note(format!("{handed_back} unsent leases were handed back"));
    findings.demand(handed_back > 0, || "nothing was leased ahead: the row shows nothing".to_owned());
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.demand_no_repetition(&reckoning);
    findings.demand_recovered_within(case.bound(HAND_BACK));
    Ok(findings.report(case, &reckoning))
}
