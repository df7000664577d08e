//! Row 14: the server's disks are full under load: first the one with the data, on which then nothing can grow, then the
//! one of the write-ahead log, at which Postgres gives up (PANIC). It is started again and again, as whoever supervises it
//! would; it stays up when there is room.

use std::{
    cell::Cell,
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::FutureExt;
use sluice_testkit::{SmallDisk, SmallDisks};
use tokio::time::timeout;

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, until};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 14,
    name: "disk full on data, then on WAL",
    done: "The disk of the data is filled to the brim for 4 TTLs under load, and freed; then the disk of the write-ahead log.",
    must_hold: "Nothing acknowledged is lost; no call is repeated; it goes on by itself when there is room.",
    run: |case| run(case).boxed_local(),
};

/// The size of each disk: enough for what a row writes, and little enough to be filled in a moment.
const DATA_MEGABYTES: u32 = 256;
const WAL_MEGABYTES: u32 = 128;
/// The log is recycled well below the size of its disk.
const SETTINGS: [(&str, &str); 2] = [("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
/// Whoever uses up a disk takes what others free, so soon.
const GREED: Duration = Duration::from_millis(50);
/// Between two looks of whoever supervises the server.
const SUPERVISION: Duration = Duration::from_millis(500);
/// A server that is down is asked no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so long without a sign of it, a disk that has room is still taken for full.
const GOES_ON_WITHIN: Duration = Duration::from_mins(3);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut plan = case.plan("200ms..1s");
    plan.server_settings = SETTINGS.to_vec();
    let mut lab = Lab::start(&case.folder, plan).await?;
    let disks = match lab.cluster.move_onto_small_disks(DATA_MEGABYTES, WAL_MEGABYTES).await {
        Ok(disks) => disks,
        Err(error) => return Ok(Report::skipped(case, &format!("no small disks can be had ({error:#})"))),
    };
    lab.start_scheduler().await?;
    for _ in 0..2 {
        lab.start_worker(case.pick(10, 25)).await?;
    }
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(15.0, 30.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    let mut findings = Findings::default();
    fill_both(&lab, &disks, &mut findings).await?;
    tokio::time::sleep(lab.timing.ttl).await;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    findings.demand_no_repetition(&reckoning);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.note(format!("{} submits were answered 503 or not at all", told.unknown_answers));
    Ok(findings.report(case, &reckoning))
}

async fn fill_both(lab: &Lab, disks: &SmallDisks, findings: &mut Findings) -> Result<()> {
    for at in 0..2 {
        lab.worker_holds(at, 2).await?;
    }
    let full_for = lab.timing.ttl * 4;
    let refusals = || lab.cluster.log().matches("No space left on device").count();
    keep_full(&disks.data, full_for, async || ()).await?;
    findings.demand(refusals() > 0, || "the full disk of the data was not noticed".to_owned());
    findings.recovered(goes_on(lab, &disks.data).await.context("after the disk of the data")?);
    tokio::time::sleep(lab.timing.ttl).await;

    let starts = Cell::new(0);
    let supervised = supervise(lab, &starts);
    let filled = async {
        keep_full(&disks.wal, full_for, async || use_up_log(lab).await).await?;
        goes_on(lab, &disks.wal).await.context("after the disk of the write-ahead log")
    };
    let recovery = tokio::select! {
        recovery = filled => recovery?,
        never = supervised => match never {},
    };
    let panics = lab.cluster.log().matches("PANIC:").count();
    findings.demand(panics > 0, || "the server lived on without room for its log".to_owned());
    findings.recovered(recovery);
    findings.note(format!("without room for its log the server gave up {panics} times"));
    findings.note(format!("it had to be started {} times", starts.get()));
    Ok(())
}

/// Fills a disk, and takes whatever becomes free, for so long; `meanwhile` is done again and again.
async fn keep_full(disk: &SmallDisk, time: Duration, mut meanwhile: impl AsyncFnMut()) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        disk.fill()?;
        meanwhile().await;
        tokio::time::sleep(GREED).await;
    }
    Ok(())
}

/// Writes to the log what nobody needs: segments that are there already are used up sooner. An error means that it
/// worked.
async fn use_up_log(lab: &Lab) {
    let writing = sqlx::query("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))");
    let _ = timeout(PATIENCE, writing.execute(lab.pool())).await;
}

/// Makes room, and says how long after that calls began again.
async fn goes_on(lab: &Lab, disk: &SmallDisk) -> Result<Recovery> {
    let calls_before = lab.upstream.calls()?.len();
    disk.free()?;
    let freed = Instant::now();
    until("calls to begin again", GOES_ON_WITHIN, async || Ok(lab.upstream.calls()?.len() > calls_before))
        .await?;
    Ok(Recovery::of(freed.elapsed()))
}

/// Starts the server whenever it is down, and counts how often.
async fn supervise(lab: &Lab, starts: &Cell<usize>) -> Infallible {
    loop {
        if lab.cluster.postmaster_pid().is_none() {
            starts.set(starts.get() + 1);
            // While there is no room it may not come up.
            let _ = lab.cluster.try_start_again().await;
        }
        tokio::time::sleep(SUPERVISION).await;
    }
}
