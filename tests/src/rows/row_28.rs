//! Row 28: a process ends between two durable steps, under load, and is started again. The seed chooses the crash point
//! (as many seeds as there are points walk through all of them) and how often it is passed before. What brings a process
//! to its point, if work alone doesn't, stands in `worker` and `scheduler`.

mod migration;
mod scheduler;
mod worker;

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use anyhow::{Result, ensure};
use futures::FutureExt;
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_store::{CrashPoint, CrashSite};

use super::{Case, Findings, Report, Row};
use crate::{
    lab::{LoadPlan, Reckoning},
    processes::faults_can_be_ordered,
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 28,
    name: "a process ends between any two durable steps",
    done: "A worker, a scheduler or a migration ends at a crash point, chosen by the seed, and is started again.",
    must_hold: "No job is lost, none ends twice, and each repeated call is one whose outcome was unknown or lost.",
    run: |case| run(case).boxed_local(),
};

/// How often the process is brought to where it should end.
const ROUNDS: usize = 5;
/// So often at most is a point that is passed again and again passed before the end.
const MOST_PASSES: u32 = 12;

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    if !faults_can_be_ordered()? {
        return Ok(Report::skipped(case, "sluice was built without the feature failpoints"));
    }
    let order = Order::of(case);
    match order.point.site() {
        CrashSite::Worker => worker::run(case, &order).await,
        CrashSite::Scheduler => scheduler::run(case, &order).await,
        CrashSite::Migration => migration::run(case, &order).await,
    }
}

/// Where a process is to end.
struct Order {
    point: CrashPoint,
    /// How often the point is passed before.
    passes: u32,
}

impl Order {
    fn of(case: &Case) -> Self {
        let points = CrashPoint::ALL.len() as u64;
        let point = CrashPoint::ALL[(case.seed.saturating_sub(1) % points) as usize];
        let mut random = StdRng::seed_from_u64(case.seed);
        let passes = if is_passed_often(point) { random.random_range(0..=MOST_PASSES) } else { 0 };
        Self { point, passes }
    }

    /// As `FAILPOINTS` says it.
    fn variable(&self) -> (&'static str, String) {
        let before = if self.passes > 0 { format!("{}*off->", self.passes) } else { String::new() };
        ("FAILPOINTS", format!("{}={before}1*return", self.point.name()))
    }

    /// What a process that ended at its point looks like.
    fn check_end(&self, status: ExitStatus) -> Result<()> {
        let is_struck = status.signal() == Some(Signal::SIGABRT as i32);
        ensure!(is_struck, "it should have ended at {} and ended with {status}", self.point.name());
        Ok(())
    }

    /// The report, with what this row demands.
    fn report(&self, case: &Case, mut findings: Findings, reckoning: &Reckoning) -> Report {
        let (repeated, explained) = (reckoning.figures.repeated, reckoning.figures.unknown_or_lost);
        findings.demand(repeated <= explained, || {
            format!("{repeated} repeated calls, and only {explained} outcomes are unknown or lost")
        });
        findings.note(self.said());
        findings.report(case, reckoning)
    }

    fn said(&self) -> String {
        format!("ended at {}, passed {} times before", self.point.name(), self.passes)
    }
}

/// Work alone passes these points many times a second.
fn is_passed_often(point: CrashPoint) -> bool {
    use CrashPoint::{Answered, Beaten, Leased, Settled, SettledWhatWasLeased, Submitted, Submitting};
    matches!(
        point,
        Answered
            | Beaten
            | Leased
            | Settled
            | SettledWhatWasLeased
            | Submitted
            | Submitting
            | CrashPoint::MigrationApplied
    )
}

/// More than the workers' slots can do, so that there are always jobs to be leased.
fn load(case: &Case) -> LoadPlan {
    LoadPlan { seed: case.seed, per_second: case.pick(30.0, 60.0), most: usize::MAX, hold_share: 0.05 }
}
