//! Who works the jobs of Q1 off, each against a simulator of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    ALLOWANCE,
    books::Paced,
    work::{MODEL, Work},
};
use crate::rig::{Database, Peer, processes::Sluice};

const WORKERS: usize = 4;
/// Between two looks at how far the work is.
const LOOK: Duration = Duration::from_millis(200);
/// Nobody needs so long.
const PATIENCE: Duration = Duration::from_mins(40);

/// An upstream that keeps its allowance strictly.
struct Upstream {
    folder: TempDir,
    process: Sluice,
    base_url: String,
}

impl Upstream {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let settings = folder.path().join("simulator.json");
        let text = json!({
            "listen": "127.0.0.1:0", "require_key": false, "ledger": ledger_in(folder.path()),
            "models": [{"id": MODEL, "dialect": "openai", "kind": "chat", "context_tokens": 128_000,
                        "max_output_tokens": 16_384}],
            "limits": {"requests_per_minute": ALLOWANCE.requests, "tokens_per_minute": ALLOWANCE.tokens,
                       "window_ms": ALLOWANCE.window_s * 1_000},
            "latency": {"first_token": {"kind": "lognormal", "p50_ms": 300, "p99_ms": 1_500},
                        "per_token": {"kind": "fixed", "ms": 1.0}},
        });
        fs::write(&settings, text.to_string()).context("write the simulator's settings")?;
        let arguments = ["sim", "--settings", text_of(&settings)?, "--output", "json"];
        let mut process = Sluice::start("simulator", folder.path(), &arguments, &[])?;
        let line = process.first_line().await?;
        let base_url = line["base_url"].as_str().context("the simulator tells its address")?.to_owned();
        Ok(Self { folder, process, base_url })
    }

    async fn stop(mut self, answers: usize) -> Result<Paced> {
        self.process.stop().await?;
        Paced::read(&ledger_in(self.folder.path()), answers as u64, ALLOWANCE)
    }
}

fn ledger_in(folder: &Path) -> PathBuf {
    folder.join("ledger.jsonl")
}

fn text_of(path: &Path) -> Result<&str> {
    path.to_str().context("a folder's name is no text")
}

/// Four workers and the two limits in the configuration.
pub async fn sluice(database: Database, work: &Work) -> Result<Option<Paced>> {
    let upstream = Upstream::start().await?;
    let folder = upstream.folder.path();
    let (configuration, requests) = (folder.join("sluice.yaml"), folder.join("requests.jsonl"));
    let text = format!(
        "upstreams:\n  - {{ name: sim, provider: openai, base_url: \"{}\", account: sim }}\n\
         routes:\n  - {{ model: {MODEL}, targets: [ {{ upstream: sim }} ] }}\n\
         limits:\n  - {{ account: sim, model: {MODEL}, requests_per_minute: {}, tokens_per_minute: {} }}\n",
        upstream.base_url, ALLOWANCE.requests, ALLOWANCE.tokens
    );
    fs::write(&configuration, text).context("write a configuration")?;
    fs::write(&requests, work.lines(0, 1)).context("write the requests")?;
    let variables = [("DATABASE_URL", database.url())];
    Sluice::run(folder, &["apply", "-f", text_of(&configuration)?], &variables).await?;
    Sluice::run(folder, &["submit", text_of(&requests)?], &variables).await?;
    let mut workers = (0..WORKERS)
        .map(|number| {
            Sluice::start(
                &format!("worker-{number}"),
                folder,
                &["worker", "--concurrency", "200"],
                &variables,
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let began_at = Instant::now();
    while database.number("SELECT count(*) FROM sluice.done").await? < work.len() as i64 {
        ensure!(began_at.elapsed() < PATIENCE, "not all jobs have ended: {}", workers[0].log());
        sleep(LOOK).await;
    }
    for worker in &mut workers {
        worker.stop().await?;
    }
    let paced = upstream.stop(work.len()).await?;
    database.remove().await?;
    Ok(Some(paced))
}

/// So many processes of a peer at once, each with its part of the work, and each paced by the limits.
pub async fn peer(database: Database, peer: &Peer, processes: usize, work: &Work) -> Result<Option<Paced>> {
    let upstream = Upstream::start().await?;
    let (requests, tokens) = (ALLOWANCE.requests.to_string(), ALLOWANCE.tokens.to_string());
    let parts = (0..processes).map(|part| {
        let file = upstream.folder.path().join(format!("requests-{part}.jsonl"));
        let (requests, tokens, url) = (&requests, &tokens, &upstream.base_url);
        let (lines, database) = (work.lines(part, processes), &database);
        async move {
            fs::write(&file, lines).context("write the requests")?;
            let limits = ["--requests-per-minute", requests, "--tokens-per-minute", tokens];
            let asked =
                [&["paced", "--file", text_of(&file)?, "--url", url.as_str()], limits.as_slice()].concat();
            peer.ask(database, &asked).await
        }
    });
    let done = tokio::time::timeout(PATIENCE, try_join_all(parts)).await.context("wait for a peer")??;
    let is_done = done.iter().all(Option::is_some);
    let paced = if is_done { Some(upstream.stop(work.len()).await?) } else { None };
    database.remove().await?;
    Ok(paced)
}
