//! A test program: which tests it has, and a run of some of them that ends with the first that fails.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command as AsyncCommand,
    time::{Instant, timeout_at},
};

/// Tests of one process at once.
const THREADS: usize = 4;

/// A program that cargo built of tests.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it lies.
    pub path: String,
    /// Its name without the hash: what the notes call it.
    pub name: String,
}

/// How a run of tests ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All passed.
    Passed,
    /// This one failed; those passed before. The rest was not waited for.
    Failed {
        /// The first that failed, or the program's name where it ended without a word.
        test: String,
        /// Which had passed.
        passed: Vec<String>,
    },
    /// Not over in time.
    Hung,
}

impl Program {
    /// The program at a path.
    pub fn new(path: &str) -> Self {
        let file = Path::new(path).file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
        let name = file.rsplit_once('-').map_or(file.clone(), |(name, _)| name.to_owned());
        Self { path: path.to_owned(), name }
    }

    /// The names of its tests.
    pub fn tests(&self) -> Result<Vec<String>> {
        let listed = Command::new(&self.path).args(["--list", "--format", "terse"]).output();
        let listed = listed.with_context(|| format!("list the tests of {}", self.name))?;
        ensure!(listed.status.success(), "{} does not list its tests", self.name);
        let text = String::from_utf8(listed.stdout)?;
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Runs tests on a server, as long as no more than `patience` passes between the ends of two.
    pub async fn run(
        &self,
        tests: &[String],
        url: &str,
        extra: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Outcome> {
        let threads = THREADS.to_string();
        let mut command = AsyncCommand::new(&self.path);
        command.args(["--test-threads", &threads, "--exact"]).args(tests);
        command.env("DATABASE_URL", url).envs(extra.iter().copied()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("run {}", self.name))?;
        let output = child.stdout.take().context("a test program has no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut until = Instant::now() + patience;
        let mut passed = Vec::new();
        loop {
            let Ok(line) = timeout_at(until, lines.next_line()).await else {
                child.kill().await?;
                return Ok(Outcome::Hung);
            };
            let Some(line) = line? else { break };
            let Some(said) = line.strip_prefix("test ") else { continue };
            if let Some(test) = said.strip_suffix(" ... ok") {
                until = Instant::now() + patience;
                passed.push(test.to_owned());
            } else if let Some(test) = said.strip_suffix(" ... FAILED") {
                child.kill().await?;
                return Ok(Outcome::Failed { test: test.to_owned(), passed });
            }
        }
        let Ok(status) = timeout_at(until, child.wait()).await else {
            child.kill().await?;
            return Ok(Outcome::Hung);
        };
        Ok(if status?.success() {
            Outcome::Passed
        } else {
            Outcome::Failed { test: self.name.clone(), passed }
        })
    }
}
