//! Workers that end at a crash point, beside one that lives.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluice_store::CrashPoint;

use super::{Order, ROUNDS, load};
use crate::{
    lab::{Lab, Load, until},
    processes::Start,
    rows::{Case, Findings, Report},
};

/// Few, so that leases are fetched ahead of them.
const SLOTS: usize = 4;
/// Enough to work off what was left.
const MANY_SLOTS: usize = 60;
/// How long a process may take to its point, once it was brought there.
const A_WHILE: Duration = Duration::from_secs(15);

/// What brings a worker to its point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Provocation {
    /// Work.
    None,
    /// It stands still until it is taken for dead, and goes on.
    Freeze,
    /// The database goes away and comes back.
    Outage,
    /// Another one died during an outage, with answers in its spool.
    DeadSpool,
    /// It is asked to end.
    Drain,
}

fn provocation(point: CrashPoint) -> Provocation {
    match point {
        CrashPoint::IncarnationRenewed | CrashPoint::SettledLate => Provocation::Freeze,
        CrashPoint::Spooled | CrashPoint::MarkingDone | CrashPoint::MarkedDone => Provocation::Outage,
        CrashPoint::TakenOver => Provocation::DeadSpool,
        CrashPoint::HandedBack | CrashPoint::Drained => Provocation::Drain,
        _ => Provocation::None,
    }
}

/// Runs the row for a point of workers.
pub(super) async fn run(case: &Case, order: &Order) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("150ms..300ms")).await?;
    lab.start_scheduler().await?;
    lab.start_worker(SLOTS).await?;
    lab.brake_is_released(0).await?;
    let load = Load::start(&lab, load(case))?;
    let mut ended = None;
    for _ in 0..ROUNDS {
        ended = round(&mut lab, order).await?;
        if ended.is_some() {
            break;
        }
    }
    let Some(victim) = ended else { bail!("no worker came to {} in {ROUNDS} rounds", order.point.name()) };
    let status = lab.workers[victim].process.wait_for_end(A_WHILE).await?;
    order.check_end(status)?;
    lab.start_worker(MANY_SLOTS).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    let mut findings = Findings::default();
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    Ok(order.report(case, findings, &reckoning))
}

/// Starts a worker that is to end at its point, and brings it there. Gives its place if it ended.
async fn round(lab: &mut Lab, order: &Order) -> Result<Option<usize>> {
    let provocation = provocation(order.point);
    if provocation == Provocation::DeadSpool {
        leave_spool(lab).await?;
    }
    let variables = [order.variable()];
    let victim = lab.start_worker_as(SLOTS, Start { variables: &variables, ..Start::default() }).await?;
    match provocation {
        Provocation::None | Provocation::DeadSpool => {}
        Provocation::Freeze => freeze(lab, victim).await?,
        Provocation::Outage => {
            lab.worker_holds(victim, SLOTS).await?;
            lab.cluster.kill().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            lab.cluster.start_again().await;
        }
        Provocation::Drain => {
            lab.worker_holds(victim, SLOTS + 1).await?;
            lab.workers[victim].process.ask_to_end()?;
        }
    }
    let has_ended = ends_within(lab, victim, A_WHILE).await?;
    if !has_ended {
        lab.workers[victim].process.ask_to_end()?;
        lab.workers[victim].process.wait_for_end(Duration::from_mins(1)).await.context("end a worker")?;
    }
    let was_asked = provocation == Provocation::Drain || !has_ended;
    let ended_well = lab.workers[victim].process.ended()?.is_some_and(|status| status.success());
    if was_asked && ended_well {
        return Ok(None);
    }
    lab.workers[victim].was_killed = true;
    Ok(Some(victim))
}

/// Has a worker die during an outage, after answers came.
async fn leave_spool(lab: &mut Lab) -> Result<()> {
    let dead = lab.start_worker(SLOTS).await?;
    lab.worker_holds(dead, SLOTS).await?;
    lab.cluster.kill().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    lab.kill_worker(dead).await?;
    lab.cluster.start_again().await;
    Ok(())
}

/// Has a worker stand still until its leases were taken from it.
async fn freeze(lab: &mut Lab, victim: usize) -> Result<()> {
    lab.worker_holds(victim, SLOTS).await?;
    lab.workers[victim].process.pause()?;
    until("the leases of a worker that stands still to end", lab.timing.ttl * 6, async || {
        Ok(lab.leases_of(victim).await?.is_empty())
    })
    .await?;
    lab.workers[victim].process.resume()
}

async fn ends_within(lab: &mut Lab, victim: usize, most: Duration) -> Result<bool> {
    let waited = lab.workers[victim].process.wait_for_end(most).await;
    Ok(waited.is_ok() || lab.workers[victim].process.ended()?.is_some())
}
