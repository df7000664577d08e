//! Other queues, each behind an adapter: a program in `bench/peers` that speaks one protocol (`bench/README.md`).

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use super::{Bench, Database, Server};
use crate::progress;

/// The exit code of an adapter whose queue has no such operation.
const NOT_SUPPORTED: i32 = 64;

/// Who is measured beside us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerSelection {
    /// All whose adapters are built.
    All,
    /// These.
    Named(Vec<String>),
    /// Nobody.
    Nobody,
}

/// Another queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    program: PathBuf,
}

impl Bench {
    /// The selected peers whose adapters are there. One that was named and is not there is told of.
    pub fn peers(&self) -> Vec<Peer> {
        let mut found = built();
        match &self.peers {
            PeerSelection::Nobody => return Vec::new(),
            PeerSelection::All => {}
            PeerSelection::Named(names) => {
                for missing in names.iter().filter(|name| !found.contains_key(*name)) {
                    progress!("{missing} is left out: its adapter is not built");
                }
                found.retain(|name, _| names.contains(name));
            }
        }
        found.into_iter().map(|(name, program)| Peer { name, program }).collect()
    }
}

/// The adapters that can be run, by name: what cargo built, and scripts with a folder of their own.
fn built() -> BTreeMap<String, PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
    let Ok(entries) = std::fs::read_dir(&folder) else { return BTreeMap::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let built = folder.join("target").join("release");
            let script = folder.join(&name).join("run");
            let found = [built.join(&name), script].into_iter().find(|path| path.is_file())?;
            Some((name, found))
        })
        .collect()
}

impl Peer {
    /// Makes a database with what the peer needs, and a backlog of so many jobs with statistics about it. `None` where
    /// the peer can't: the reason was told.
    pub async fn prepare(&self, server: &Server, backlog: u64) -> Result<Option<Database>> {
        let database = server.empty_database().await?;
        let is_ready = self.tell(&database, &["setup"]).await?
            && (backlog == 0 || self.tell(&database, &["fill", "--jobs", &backlog.to_string()]).await?);
        if !is_ready {
            database.remove().await?;
            return Ok(None);
        }
        database.analyze().await?;
        Ok(Some(database))
    }

    /// Asks for an operation that answers with figures; `None` where the peer has none such, or failed: the reason was
    /// told, and the others are measured all the same.
    pub async fn ask(&self, database: &Database, arguments: &[&str]) -> Result<Option<Value>> {
        let Some(said) = self.run(database, arguments).await? else { return Ok(None) };
        let line = said.lines().rev().find(|line| line.starts_with('{'));
        let line = line.with_context(|| format!("{} answered no JSON to {arguments:?}", self.name))?;
        Ok(Some(serde_json::from_str(line).with_context(|| format!("read what {} answered", self.name))?))
    }

    /// Jobs a second of an operation that answers with `jobs` and `seconds`.
    pub async fn rate(&self, database: &Database, arguments: &[&str]) -> Result<Option<f64>> {
        let Some(figures) = self.ask(database, arguments).await? else { return Ok(None) };
        match (figures["jobs"].as_f64(), figures["seconds"].as_f64()) {
            (Some(jobs), Some(seconds)) if seconds > 0.0 => Ok(Some(jobs / seconds)),
            _ => bail!("{} answered {figures} to {arguments:?}", self.name),
        }
    }

    async fn tell(&self, database: &Database, arguments: &[&str]) -> Result<bool> {
        Ok(self.run(database, arguments).await?.is_some())
    }

    async fn run(&self, database: &Database, arguments: &[&str]) -> Result<Option<String>> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("DATABASE_URL", database.url())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run the adapter of {}", self.name))?;
        if output.status.success() {
            return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        let reason = reason.trim().lines().last().unwrap_or("no reason given").to_owned();
        if output.status.code() == Some(NOT_SUPPORTED) {
            progress!("{} is left out of {arguments:?}: {reason}", self.name);
        } else {
            progress!("{} failed at {arguments:?} ({}): {reason}", self.name, output.status);
        }
        Ok(None)
    }
}
