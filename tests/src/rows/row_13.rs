//! Row 13: others use up the server's connections, and take each one that becomes free.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::FutureExt;
use sluice_domain::Outcome;
use sqlx::{Connection, PgConnection};

use super::{Case, Findings, Report, Row};
use crate::lab::{Lab, Load, LoadPlan, Recovery, until};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 13,
    name: "connections used up by others",
    done: "Others take every connection that the server has left, and each that becomes free, for 4 TTLs under load.",
    must_hold: "Submits are answered, if only with 503, and fast; beats go on over their own connection; no call is repeated.",
    run: |case| run(case).boxed_local(),
};

/// Few enough that the others take most of them.
const MAX_CONNECTIONS: &str = "40";
/// A submit that gets no connection is answered within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut plan = case.plan("200ms..1s");
    // None are kept for the owner, as which all processes connect here.
    plan.server_settings =
        vec![("max_connections", MAX_CONNECTIONS), ("superuser_reserved_connections", "0")];
    let mut lab = Lab::start(&case.folder, plan).await?;
    lab.start_scheduler().await?;
    for _ in 0..2 {
        lab.start_worker(case.pick(10, 25)).await?;
    }
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(15.0, 40.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    for at in 0..2 {
        lab.worker_holds(at, 3).await?;
    }
    let greed = tokio::spawn(take_all(lab.cluster.url().to_owned(), lab.timing.ttl * 4));
    let taken = greed.await.context("those who take all connections")?;
    let calls_before = lab.upstream.calls()?.len();
    let (freed_at, freed) = (lab.now().await?, Instant::now());
    until("calls to begin again", Duration::from_mins(1), async || {
        Ok(lab.upstream.calls()?.len() > calls_before)
    })
    .await?;
    let again_after = freed.elapsed();
    tokio::time::sleep(lab.timing.ttl).await;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;

    let mut findings = Findings::default();
    findings.recovered(Recovery::of(again_after));
    findings.demand_no_repetition(&reckoning);
    findings.demand(taken > 0, || "no connection was left to take: the row shows nothing".to_owned());
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.demand(told.slowest_refusal < case.bound(ANSWERED_WITHIN), || {
        format!("a submit was answered only after {:?}", told.slowest_refusal)
    });
    let ended_meanwhile = reckoning
        .history
        .attempts
        .iter()
        .filter(|attempt| attempt.outcome == Some(Outcome::Succeeded))
        .filter(|attempt| attempt.ended_at.is_some_and(|at| at < freed_at))
        .count();
    findings.note(format!(
        "{taken} connections were taken; {ended_meanwhile} jobs ended before they were given back; {} submits were \
         answered 503",
        told.unknown_answers
    ));
    Ok(findings.report(case, &reckoning))
}

/// Opens connections for so long, as many as there are, and then closes them all. Says how many it held.
async fn take_all(url: String, time: Duration) -> usize {
    let begun = Instant::now();
    let mut held = Vec::new();
    while begun.elapsed() < time {
        match PgConnection::connect(&url).await {
            Ok(connection) => held.push(connection),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let taken = held.len();
    for connection in held {
        // What does not close in order closes by being dropped.
        let _ = connection.close().await;
    }
    taken
}
