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
    done: "A collector is down, silent, or full, or nobody reads the log, each beside the same worker without the trouble.",
    must_hold: "The rate of calls changes by less than 2 %.",
    run: |case| run(case).boxed_local(),
};

/// By how much the rate may fall.
const MAX_CHANGE: f64 = 0.02;
/// What a collector that is full says.
const FULL: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Calls of one length, by so many slots.
const LATENCY: &str = "100ms";
const SLOTS: usize = 8;

/// One kind of trouble, and how the worker that has it is started.
struct Trouble {
    name: &'static str,
    variables: Vec<(&'static str, String)>,
    /// The same worker without the trouble, which it is compared with.
    healthy_variables: Vec<(&'static str, String)>,
    log: LogTo,
}

impl Trouble {
    fn of_collector(name: &'static str, endpoint: &str) -> Self {
        let healthy_variables = Vec::new();
        Self { name, variables: observed(endpoint), healthy_variables, log: LogTo::File }
    }

    /// Much is logged, with and without a reader.
    fn of_log() -> Self {
        let variables = vec![("SLUICE_LOG", "debug".to_owned())];
        Self {
            name: "log unread",
            variables: variables.clone(),
            healthy_variables: variables,
            log: LogTo::Nobody,
        }
    }
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan(LATENCY)).await?;
    lab.start_scheduler().await?;
    // Ten calls a second and slot; more comes than that.
    let plan =
        LoadPlan { seed: case.seed, per_second: SLOTS as f64 * 11.0, most: usize::MAX, hold_share: 0.0 };
    let load = Load::start(&lab, plan)?;
    let troubles = [
        Trouble::of_collector("collector down", &format!("http://127.0.0.1:{}", free_port())),
        Trouble::of_collector("collector silent", &collector(Answering::Never).await?),
        Trouble::of_collector("collector full", &collector(Answering::Full).await?),
        Trouble::of_log(),
    ];
    let allowed = case.pick(0.3, MAX_CHANGE);
    let mut findings = Findings::default();
    for Trouble { name, variables, healthy_variables, log } in &troubles {
        let healthy = Start { variables: healthy_variables, ..Start::default() };
        let usual = pace(&mut lab, case, healthy).await?;
        let rate = pace(&mut lab, case, Start { variables, log: *log, ..Start::default() }).await?;
        let change = rate / usual - 1.0;
        findings.note(format!("{name} {rate:.1}/s beside {usual:.1}/s"));
        findings.demand(change > -allowed, || format!("{name} changed the rate by {:.1} %", change * 100.0));
    }
    lab.start_worker(SLOTS * 4).await?;
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(5)).await?;
    findings.demand_no_repetition(&reckoning);
    Ok(findings.report(case, &reckoning))
}

/// Calls a second of a worker that is started so and works alone.
async fn pace(lab: &mut Lab, case: &Case, start: Start<'_>) -> Result<f64> {
    let at = lab.start_worker_as(SLOTS, start).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let from = lab.now().await?;
    tokio::time::sleep(Duration::from_secs(case.pick(4, 20))).await;
    let rate = rate_between(&lab.upstream.calls()?, from, lab.now().await? - TimeDelta::milliseconds(100));
    lab.workers[at].process.ask_to_end()?;
    lab.workers[at].process.wait_for_end(Duration::from_mins(1)).await?;
    Ok(rate)
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
