//! Row 15: wall clocks jump while everything runs. First those of workers, a day ahead and a day back; then the
//! database's, an hour ahead and an hour back, again and again. Leases live by the database's clock alone, and what
//! its jumps do to them is what the brake is for.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use sluice_domain::Outcome;

use super::{Case, Findings, Report, Row};
use crate::{
    lab::{FakeClock, Lab, Load, LoadPlan, Recovery, Told, until},
    processes::{Process, Start},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 15,
    name: "clocks: worker ± 1 day; database ± 1 h",
    done: "The wall clocks of two of three workers jump by a day, one each way; then the database's by an hour, both ways.",
    must_hold: "No lease is taken from a beating worker; no call is repeated; what waits is worked all the same.",
    run: |case| run(case).boxed_local(),
};

const DAY: TimeDelta = TimeDelta::days(1);
const HOUR: TimeDelta = TimeDelta::hours(1);
/// After a jump of the database's clock, jobs that were submitted before it have ended.
const WORKED_WITHIN: Duration = Duration::from_secs(30);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut clocks = Vec::new();
    for _ in 0..3 {
        match FakeClock::new().await? {
            Ok(clock) => clocks.push(clock),
            Err(reason) => return Ok(Report::skipped(case, &reason)),
        }
    }
    let [ahead, back, database] = clocks.as_slice() else { unreachable!("three were made") };
    let mut lab = Lab::start(&case.folder, case.plan("500ms..2s")).await?;
    lab.cluster.start_again_with_variables(&database.variables()).await?;
    lab.start_scheduler().await?;
    let slots = case.pick(10, 40);
    for clock in [ahead, back] {
        lab.start_worker_as(slots, Start { variables: &clock.variables(), ..Start::default() }).await?;
    }
    lab.start_worker(slots).await?;
    lab.brake_is_released(0).await?;
    // Two thirds of what they can do: what waits at a jump is soon worked.
    let plan =
        LoadPlan { seed: case.seed, per_second: slots as f64 * 1.6, most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    for at in 0..3 {
        lab.worker_holds(at, case.pick(3, 10)).await?;
    }
    let mut findings = Findings::default();
    workers_jump(&lab, [(0, ahead, DAY), (1, back, -DAY)], &mut findings).await?;
    let mut told = Told::default();
    for (jump, wrong_by) in (1..).zip([HOUR, TimeDelta::zero(), -HOUR, TimeDelta::zero()]) {
        // So many at once that most of them wait when the clock jumps.
        let burst =
            LoadPlan { seed: case.seed * 1_000 + jump, per_second: 500.0, most: slots * 4, hold_share: 0.0 };
        told.add(Load::start(&lab, burst)?.finish().await?);
        database_jumps(case, &lab, (database, wrong_by), &mut findings).await?;
    }
    told.add(load.stop().await?);
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(5)).await?;
    let lost =
        reckoning.history.attempts.iter().filter(|attempt| attempt.outcome == Some(Outcome::Lost)).count();
    findings.demand(lost == 0, || format!("{lost} leases were taken from workers that beat"));
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    for (worker, wrong_by) in [(0, DAY), (1, -DAY)] {
        demand_felt(&lab.workers[worker].process, wrong_by, &mut findings);
    }
    Ok(findings.report(case, &reckoning))
}

/// Workers' clocks jump, and stay where they are.
async fn workers_jump(
    lab: &Lab,
    jumps: [(usize, &FakeClock, TimeDelta); 2],
    findings: &mut Findings,
) -> Result<()> {
    let mut before = Vec::new();
    for (worker, clock, wrong_by) in jumps {
        before.push(lab.lives_of(worker).await?);
        clock.set(wrong_by)?;
    }
    tokio::time::sleep(lab.timing.ttl * 2).await;
    for ((worker, ..), before) in jumps.iter().zip(before) {
        let lives = lab.lives_of(*worker).await?;
        findings.demand(lives == before, || format!("worker {worker} was taken for dead"));
    }
    Ok(())
}

/// The database's clock jumps. Jobs that wait then must not wait for it to come round again.
async fn database_jumps(
    case: &Case,
    lab: &Lab,
    (clock, wrong_by): (&FakeClock, TimeDelta),
    findings: &mut Findings,
) -> Result<()> {
    let real: DateTime<Utc> = lab.now().await?;
    let waiting = lab.waiting().await?;
    clock.set(wrong_by)?;
    let jump = lab.now().await? - real;
    findings.demand(jump.abs() > HOUR / 2, || format!("the database's clock jumped by {jump} only"));
    let jumped = std::time::Instant::now();
    let worked = until("jobs that waited to be worked", case.bound(WORKED_WITHIN), async || {
        Ok(lab.never_leased(&waiting).await? == 0)
    });
    match worked.await {
        Ok(()) if !waiting.is_empty() => findings.recovered(Recovery::of(jumped.elapsed())),
        Ok(()) => findings.demand(false, || "nothing waited when the clock jumped".to_owned()),
        Err(_) => {
            let left = lab.never_leased(&waiting).await?;
            let of = waiting.len();
            findings.demand(false, || format!("{left} of {of} jobs waited on after a jump of {jump}"));
        }
    }
    tokio::time::sleep((lab.timing.ttl * 2).saturating_sub(jumped.elapsed())).await;
    Ok(())
}

/// What a worker logged last must bear its own date, or the jump was none.
fn demand_felt(worker: &Process, wrong_by: TimeDelta, findings: &mut Findings) {
    let felt = last_logged(worker).map(|at| at - now_by_our_clock());
    let is_so = felt.as_ref().is_ok_and(|felt| (*felt - wrong_by).abs() < HOUR);
    findings.demand(is_so, || format!("a worker's clock was to be wrong by {wrong_by}, and was by {felt:?}"));
}

fn last_logged(worker: &Process) -> Result<DateTime<Utc>> {
    let log = worker.log();
    let line = log.lines().next_back().context("it logged nothing")?;
    let line: serde_json::Value = serde_json::from_str(line)?;
    Ok(line["time"].as_str().context("a line has a time")?.parse()?)
}

#[expect(clippy::disallowed_methods, reason = "compared with what another process saw on its clock")]
fn now_by_our_clock() -> DateTime<Utc> {
    Utc::now()
}
