//! Row 4: workers are stopped mid-call for one, two and ten TTLs and then go on, as after a suspend. Their calls are
//! answered while they stand still, so that they come back with paid answers for leases that are no longer theirs.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_domain::Outcome;

use super::{Case, Findings, Report, Row};
use crate::{
    history::History,
    lab::{Lab, Load, LoadPlan, Recovery},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 4,
    name: "SIGSTOP a worker, then SIGCONT",
    done: "Three of five workers are stopped mid-call for 1, 2 and 10 TTLs while the others work on, and then go on.",
    must_hold: "No stale write is accepted; every answer that came for a lost lease is kept; no dead lease starts a call.",
    run: |case| run(case).boxed_local(),
};

/// For how many TTLs each of the first workers stands still.
const STOPS: [u32; 3] = [1, 2, 10];
const SMALL_STOPS: [u32; 3] = [1, 2, 4];
/// Requests that a stopped worker may have been about to write, one for each of its runtime's threads.
const HALF_SENT: usize = 2;

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    let stops = case.pick(SMALL_STOPS, STOPS);
    let mut lab = Lab::start(&case.folder, case.plan("1s..2s")).await?;
    lab.start_scheduler().await?;
    for _ in 0..stops.len() + 2 {
        lab.start_worker(case.pick(20, 60)).await?;
    }
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(24.0, 40.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    let mut findings = Findings::default();
    let mut stopped = Vec::new();
    for at in 0..stops.len() {
        lab.worker_holds(at, case.pick(4, 5)).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
        let stopped_at = lab.now().await?;
        lab.workers[at].process.pause()?;
        stopped.push((stopped_at, lab.leases_of(at).await?));
    }
    let mut resumed = Vec::new();
    for (at, times) in stops.into_iter().enumerate() {
        let (stopped_at, _) = stopped[at];
        let until = stopped_at + case.timing().ttl * times;
        let left = (until - lab.now().await?).to_std().unwrap_or_default();
        tokio::time::sleep(left).await;
        resumed.push(lab.now().await?);
        lab.workers[at].process.resume()?;
    }
    // They go on: what they had begun is written, and they work again as new incarnations.
    tokio::time::sleep(case.timing().beat() * 2 + Duration::from_secs(3)).await;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    let history = &reckoning.history;
    for (stopped_at, leases) in &stopped {
        findings.recovered(Recovery::of_leases(leases, *stopped_at, &history.attempts));
    }
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    let lost = history.attempts.iter().filter(|attempt| attempt.outcome == Some(Outcome::Lost)).count();
    findings.demand(lost > 0, || "no lease was lost: the row shows nothing".to_owned());
    let begun_late = late_calls_begun_after(history, resumed[0]);
    findings.demand(begun_late <= HALF_SENT * stops.len(), || {
        format!("{begun_late} calls began under leases that had ended")
    });
    findings.note(format!("{lost} leases lost, {} answers late", history.late.len()));
    Ok(findings.report(case, &reckoning))
}

/// Calls of late answers that arrived after the first worker went on.
fn late_calls_begun_after(history: &History, resumed_at: DateTime<Utc>) -> usize {
    let late = |id: &Option<String>| history.late.iter().any(|answer| answer.call_id == *id);
    history.calls.iter().filter(|call| call.arrived_at > resumed_at && late(&call.call_id)).count()
}
