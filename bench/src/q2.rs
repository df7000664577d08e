//! Q2: calls at once that nobody tells. An upstream takes so many at once of an account and model, and refuses the rest with
//! 429; then it takes half as many, then four times that. Four workers find out, and share nothing but Postgres.
//!
//! What is measured comes from the simulator's ledger: how much of what it takes is in use once a phase has settled (from ten
//! seconds on), how many of a thousand calls it refuses then, and how long it takes after a change until a second comes in
//! which 95 % are in use and not more than one in a hundred is refused.
//!
//! The *limit* is what nobody can beat: all of it, from the first moment on.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    progress,
    rig::{
        Bench, Database, LIMIT, Metric, SLUICE, Server, Sheet, USED_RATIO,
        processes::Sluice,
        simulated::{CallLog, Simulated, now},
    },
};

const WORKERS: usize = 4;
const MODEL: &str = "gpt-sim";
/// How long calls take, in the middle.
const LATENCY_MS: u64 = 1_500;
/// What a phase has to settle, in seconds.
const SETTLING_S: i64 = 10;
/// Of a second that counts as settled.
const LEAST_USED: f64 = 0.95;
const MOST_REFUSED: f64 = 0.01;

const REFUSED: Metric = Metric::new("refused_per_1000", "1");
const CONVERGED_S: Metric = Metric::new("converged_s", "s");

/// How much is taken at once, for how long.
#[derive(Clone, Copy)]
struct Phase {
    variant: &'static str,
    limit: u32,
    seconds: u64,
}

const fn phase(variant: &'static str, limit: u32, seconds: u64) -> Phase {
    Phase { variant, limit, seconds }
}

const FULL: [Phase; 3] =
    [phase("limit=500", 500, 60), phase("500 to 250", 250, 45), phase("250 to 1000", 1_000, 45)];
const QUICK: [Phase; 3] =
    [phase("limit=100", 100, 22), phase("100 to 50", 50, 22), phase("50 to 200", 200, 22)];

/// Measures it.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("Q2");
    let phases = bench.choose(FULL, QUICK);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let database = server.database().await?;
        let (log, times) = work(&database, &phases).await?;
        database.remove().await?;
        for (phase, (from, to)) in phases.iter().zip(times) {
            note(&mut sheet, run, phase, &log, from, to);
        }
    }
    bench.publish(&sheet)
}

fn note(sheet: &mut Sheet, run: usize, phase: &Phase, log: &CallLog, from: DateTime<Utc>, to: DateTime<Utc>) {
    let settled = from + chrono::TimeDelta::seconds(SETTLING_S);
    let used = log.under_way(settled, to) / f64::from(phase.limit);
    let share = |from, to| log.refused(from, to) as f64 / (log.arrived(from, to) as f64).max(1.0);
    let refused = share(settled, to) * 1_000.0;
    let converged = log.until(from, to, |log, from, to| {
        let used = log.under_way(from, to) / f64::from(phase.limit);
        used >= LEAST_USED && share(from, to) <= MOST_REFUSED
    });
    let said = converged.map_or_else(|| "never".to_owned(), |seconds| format!("after {seconds:.1} s"));
    progress!(
        "Q2 run {run}: {}: {:.1} % used, {refused:.1} of 1,000 refused, found {said}",
        phase.variant,
        used * 100.0
    );
    sheet.note(SLUICE, phase.variant, USED_RATIO, used);
    sheet.note(SLUICE, phase.variant, REFUSED, refused);
    if let Some(seconds) = converged {
        sheet.note(SLUICE, phase.variant, CONVERGED_S, seconds);
    }
    sheet.note(LIMIT, phase.variant, USED_RATIO, 1.0);
}

/// Works through the phases; what the upstream saw, and when each phase began and ended.
async fn work(
    database: &Database,
    phases: &[Phase],
) -> Result<(CallLog, Vec<(DateTime<Utc>, DateTime<Utc>)>)> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let settings = json!({
        "models": [{"id": MODEL, "dialect": "openai", "kind": "chat", "context_tokens": 128_000,
                    "max_output_tokens": 16_384}],
        "limits": {"concurrency": phases[0].limit},
        "answer_tokens": {"min": 1, "max": 1},
        "latency": {"first_token": {"kind": "lognormal", "p50_ms": LATENCY_MS, "p99_ms": LATENCY_MS * 2},
                    "per_token": {"kind": "fixed", "ms": 0.0}},
    });
    let upstream = Simulated::start(folder.path(), "upstream", None, settings).await?;
    let most = phases.iter().map(|phase| phase.limit).max().unwrap_or(1);
    let text = format!(
        "upstreams:\n  - {{ name: sim, provider: openai, base_url: \"{}\", account: sim }}\n\
         routes:\n  - {{ model: {MODEL}, targets: [ {{ upstream: sim }} ] }}\n\
         limits:\n  - {{ account: sim, model: {MODEL}, adaptive: {{ floor: 1, ceiling: 10000 }} }}\n",
        upstream.base_url
    );
    let (configuration, requests) = (folder.path().join("sluice.yaml"), folder.path().join("requests.jsonl"));
    fs::write(&configuration, text).context("write a configuration")?;
    fs::write(&requests, lines(phases)).context("write the requests")?;
    let variables = [("DATABASE_URL", database.url())];
    let path =
        |path: &std::path::Path| path.to_str().map(str::to_owned).context("a folder's name is no text");
    Sluice::run(folder.path(), &["apply", "-f", &path(&configuration)?], &variables).await?;
    Sluice::run(folder.path(), &["submit", &path(&requests)?], &variables).await?;
    database.analyze().await?;
    let concurrency = most.to_string();
    let mut workers = (0..WORKERS)
        .map(|number| {
            let arguments = ["worker", "--concurrency", &concurrency];
            Sluice::start(&format!("worker-{number}"), folder.path(), &arguments, &variables)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut times = Vec::new();
    for phase in phases {
        upstream.change(&json!({"limits": {"concurrency": phase.limit}})).await?;
        let from = now();
        sleep(Duration::from_secs(phase.seconds)).await;
        times.push((from, now()));
    }
    for worker in &mut workers {
        worker.stop().await?;
    }
    Ok((upstream.stop().await?, times))
}

/// More than can be done in the time.
fn lines(phases: &[Phase]) -> String {
    let calls: u64 =
        phases.iter().map(|phase| u64::from(phase.limit) * phase.seconds * 1_000 / LATENCY_MS).sum();
    let line = |number: u64| {
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": number.to_string()}]});
        let line = json!({
            "custom_id": number.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body
        });
        format!("{line}\n")
    };
    (0..calls * 6 / 5).map(line).collect()
}
