//! The simulator as a process of its own, with its ledger in a file that it syncs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Plan;
use crate::{
    facts,
    history::Call,
    processes::{Process, free_port},
};

/// The upstream that all calls go to.
#[derive(Debug)]
pub struct Upstream {
    /// The process.
    pub process: Process,
    address: String,
    ledger: PathBuf,
}

impl Upstream {
    /// Starts it and waits until it answers.
    pub(super) async fn start(folder: &Path, plan: &Plan) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port());
        let ledger = folder.join("calls.jsonl");
        let seed = plan.seed.to_string();
        let ledger_path = ledger.to_str().context("the folder's name is text")?;
        let mut arguments = vec!["sim", "--listen", &address, "--ledger", ledger_path, "--seed", &seed];
        arguments.extend(["--latency", &plan.latency]);
        arguments.extend(plan.simulator.iter().map(String::as_str));
        let mut process = Process::start("simulator", folder, &arguments, &[])?;
        process.wait_for_url(&format!("http://{address}/sim/stats")).await;
        Ok(Self { process, address, ledger })
    }

    /// Where it is called.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address, for a proxy before it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes its settings for calls that arrive later, as `POST /sim/config` takes them.
    pub async fn change(&self, patch: &Value) -> Result<()> {
        let url = format!("{}/sim/config", self.base_url());
        let answer = reqwest::Client::new().post(url).json(patch).send().await?;
        answer.error_for_status().context("change the simulator")?;
        Ok(())
    }

    /// The calls that it received so far, in order of arrival.
    pub fn calls(&self) -> Result<Vec<Call>> {
        facts::calls(&self.ledger)
    }
}
