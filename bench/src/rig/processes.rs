//! Real `sluice` processes, and what processes use.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long a process may take to say that it serves, or to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running `sluice` with its log in a file; killed when dropped.
#[derive(Debug)]
pub struct Sluice {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Sluice {
    /// Starts `sluice ARGUMENTS…` with these variables and nothing else of Sluice's. `folder` holds its log and its
    /// data directory.
    pub fn start(name: &str, folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).context("make a log file")?;
        let mut child = command(folder, arguments, variables)?
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start sluice {arguments:?}"))?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        Ok(Self { child, stdout: BufReader::new(stdout).lines(), log })
    }

    /// Runs `sluice ARGUMENTS…` to its end; an exit code other than 0 is an error.
    pub async fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        let output = command(folder, arguments, variables)?.output().await.context("run sluice")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sluice {arguments:?} ended with {}: {said}", output.status);
        Ok(())
    }

    /// The first line of its output, which is JSON where it was started with `--output json`.
    pub async fn first_line(&mut self) -> Result<Value> {
        let line = timeout(PATIENCE, self.stdout.next_line()).await.context("wait for its first line")??;
        let line = line.with_context(|| format!("it ended: {}", self.log()))?;
        serde_json::from_str(&line).with_context(|| format!("read {line:?}"))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<i32> {
        self.child.id().map(|id| id as i32)
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(id) = self.id() {
            kill(Pid::from_raw(id), Signal::SIGTERM).context("stop a process")?;
        }
        timeout(PATIENCE, self.child.wait()).await.context("wait for its end")??;
        Ok(())
    }
}

fn command(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command> {
    let mut command = Command::new(sluice_binary()?);
    command
        .args(arguments)
        .env_remove("DEEPSEEK_API_KEY")
        .env_remove("SLUICE_CONFIG")
        .env("SLUICE_DATA_DIR", folder.join("data"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    Ok(command)
}

/// The binary, built with the same profile as this program.
fn sluice_binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let found =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("sluice")).find(|path| path.is_file());
    found.context("find `sluice` beside this program: build it with `cargo build --release -p sluice`")
}

/// What processes have used of the processors so far, in seconds: user and system time, with that of their children.
/// Take it before and after, and subtract.
pub fn cpu_seconds(pids: &[i32]) -> f64 {
    let all = stats();
    pids.iter().filter_map(|pid| all.get(pid)).map(|stat| stat.own + stat.of_ended_children).sum()
}

/// As [`cpu_seconds`], for a process and all that it started: a Postgres server with its backends.
pub fn cpu_seconds_of_family(parent: i32) -> f64 {
    let all = stats();
    let children = all.values().filter(|stat| stat.parent == parent);
    let of_children: f64 = children.map(|stat| stat.own + stat.of_ended_children).sum();
    of_children + all.get(&parent).map_or(0.0, |stat| stat.own + stat.of_ended_children)
}

/// Memory that a process holds, in KB, without what it shares with files.
pub fn memory_kb(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

struct Stat {
    parent: i32,
    own: f64,
    of_ended_children: f64,
}

/// All processes, from `pid (comm) state ppid … utime stime cutime cstime …`.
fn stats() -> BTreeMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, stat_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

fn stat_of(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // The kernel shows times in hundredths of a second, whatever it counts in.
    let seconds = |field: usize| fields.get(field)?.parse::<f64>().ok().map(|ticks| ticks / 100.0);
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(11)? + seconds(12)?,
        of_ended_children: seconds(13)? + seconds(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_a_name_with_blanks_and_brackets() {
        let text = "7 (a) b)) S 3 7 7 0 -1 0 0 0 0 0 150 50 20 30 20 0 1 0";
        let stat = stat_of(text).unwrap();
        assert_eq!((stat.parent, stat.own, stat.of_ended_children), (3, 2.0, 0.5));
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let own = std::process::id() as i32;
        assert!(cpu_seconds(&[own]) >= 0.0);
        assert!(memory_kb(own).is_some_and(|kb| kb > 0));
    }
}
