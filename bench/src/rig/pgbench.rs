//! Postgres' own load generator: what a statement costs with next to no client.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use sluice_cluster::find_programs;
use tokio::process::Command;

use super::Database;

/// One call of `pgbench`: a script, so many clients, so many transactions of each.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    /// The script's text.
    pub text: &'a str,
    /// Connections, each of which runs the script over and over.
    pub clients: usize,
    /// How often each of them runs it.
    pub transactions: u64,
    /// Variables of the script.
    pub variables: Vec<(&'a str, String)>,
}

/// What `pgbench` measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measured {
    /// Scripts that were run to their end.
    pub transactions: u64,
    /// Scripts a second, without the time for connecting.
    pub per_second: f64,
}

impl Measured {
    /// How long it took.
    pub fn seconds(self) -> f64 {
        self.transactions as f64 / self.per_second
    }
}

/// Runs a script with prepared statements.
pub async fn run(database: &Database, script: &Script<'_>) -> Result<Measured> {
    let file = tempfile::Builder::new().suffix(".sql").tempfile().context("make a file for pgbench")?;
    std::fs::write(file.path(), script.text).context("write the script")?;
    let threads = script.clients.min(2);
    let mut command = Command::new(program()?);
    command.args(["--no-vacuum", "--protocol=prepared", "--file"]).arg(file.path());
    command.arg(format!("--client={}", script.clients)).arg(format!("--jobs={threads}"));
    command.arg(format!("--transactions={}", script.transactions));
    for (name, value) in &script.variables {
        command.arg(format!("--define={name}={value}"));
    }
    let output = command
        .arg(database.url())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("run pgbench")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    measured(&said).with_context(|| format!("understand pgbench: {said}"))
}

fn program() -> Result<PathBuf> {
    let installed = find_programs()?;
    let pgbench = installed.iter().map(|programs| programs.folder.join("pgbench"));
    pgbench.into_iter().find(|path| path.exists()).context("find pgbench beside the server's programs")
}

fn measured(said: &str) -> Option<Measured> {
    let after = |start: &str| said.lines().find_map(|line| line.trim().strip_prefix(start));
    let transactions =
        after("number of transactions actually processed: ")?.split('/').next()?.parse().ok()?;
    let per_second = after("tps = ")?.split_whitespace().next()?.parse().ok()?;
    Some(Measured { transactions, per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_pgbench_are_read() {
        let said = "number of clients: 2\nnumber of transactions actually processed: 950/950\n\
                    latency average = 3.1 ms\ntps = 612.25 (without initial connection time)\n";
        assert_eq!(measured(said), Some(Measured { transactions: 950, per_second: 612.25 }));
    }
}
