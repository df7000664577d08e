//! Row 26: what observes is in trouble: the collector is down, slow or full, or nobody reads the log. The work goes on
//! at its pace.
//!
//! The pace is bound by slots and by calls of one length, so that what is measured is what observing costs the calls
//! and not what the machine had to do besides.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use chrono::TimeDelta;
use futures::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Case, Findings, Report, Row};
use crate::{
    lab::{Lab, Load, LoadPlan, rate_between},
    processes::{LogTo, Start, free_port},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 26,
    name: "collector down, slow, full; log sink blocked",
    done: "A worker works with no collector, then with one that is down, silent, or full, then with a log that nobody reads.",
    must_hold: "The rate of calls changes by less than 2 %.",
    run: |case| run(case).boxed_local(),
};

/// By how much the rate may fall.
const MAX_CHANGE: f64 = 0.02;
/// What a collector that is full says.
const FULL: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    Nothing,
    CollectorDown,
    CollectorSilent,
    CollectorFull,
    LogUnread,
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("250ms")).await?;
    lab.start_scheduler().await?;
    let slots = 10;
    // Four calls a second and slot; more comes than that.
    let plan =
        LoadPlan { seed: case.seed, per_second: slots as f64 * 5.0, most: usize::MAX, hold_share: 0.0 };
    let load = Load::start(&lab, plan)?;
    let (silent, full) = (collector(Answering::Never).await?, collector(Answering::Full).await?);
    let down = format!("http://127.0.0.1:{}", free_port());
    let mut findings = Findings::default();
    let troubles = [
        Trouble::Nothing,
        Trouble::CollectorDown,
        Trouble::CollectorSilent,
        Trouble::CollectorFull,
        Trouble::LogUnread,
        Trouble::Nothing,
    ];
    let mut rates = Vec::new();
    for trouble in troubles {
        let variables = match trouble {
            Trouble::Nothing => Vec::new(),
            Trouble::CollectorDown => observed(&down),
            Trouble::CollectorSilent => observed(&silent),
            Trouble::CollectorFull => observed(&full),
            Trouble::LogUnread => vec![("SLUICE_LOG", "debug".to_owned())],
        };
        let log = if trouble == Trouble::LogUnread { LogTo::Nobody } else { LogTo::File };
        let at = lab.start_worker_as(slots, Start { variables: &variables, log, ..Start::default() }).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let from = lab.now().await?;
        tokio::time::sleep(Duration::from_secs(case.pick(5, 20))).await;
        let rate =
            rate_between(&lab.upstream.calls()?, from, lab.now().await? - TimeDelta::milliseconds(100));
        rates.push((trouble, rate));
        lab.workers[at].process.ask_to_end()?;
        lab.workers[at].process.wait_for_end(Duration::from_mins(1)).await?;
    }
    let usual =
        rates.iter().filter(|(trouble, _)| *trouble == Trouble::Nothing).map(|(_, rate)| rate).sum::<f64>()
            / 2.0;
    let allowed = case.pick(0.2, MAX_CHANGE);
    for (trouble, rate) in &rates {
        let change = rate / usual - 1.0;
        findings.note(format!("{trouble:?} {rate:.1}/s"));
        findings
            .demand(change > -allowed, || format!("{trouble:?} changed the rate by {:.1} %", change * 100.0));
    }
    lab.start_worker(slots * 4).await?;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(5)).await?;
    findings.demand_no_repetition(&reckoning);
    Ok(findings.report(case, &reckoning))
}

/// What a process is told of a collector: everything, and often.
fn observed(endpoint: &str) -> Vec<(&'static str, String)> {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

#[derive(Clone, Copy)]
enum Answering {
    Never,
    Full,
}

/// Starts a collector in trouble; gives its endpoint.
async fn collector(answering: Answering) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a collector's port")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            match answering {
                Answering::Never => silent.push(stream),
                Answering::Full => drop(tokio::spawn(refuse(stream))),
            }
        }
    });
    Ok(endpoint)
}

/// Answers whatever comes; who goes away first has had enough.
async fn refuse(mut stream: TcpStream) {
    let mut request = vec![0; 64 * 1024];
    if stream.read(&mut request).await.is_ok_and(|read| read > 0) && stream.write_all(FULL).await.is_ok() {
        // What is left of the request is taken in, or the answer would be lost in a reset.
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
    }
}
