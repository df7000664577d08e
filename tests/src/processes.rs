//! Real processes of the real binary, each ended with the test that started it.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use sluice_testkit::wait_until;
use tokio::process::{Child, Command};

/// The binary under test, next to the test's own.
///
/// # Panics
///
/// When it is not there; the message says how to build it.
pub fn sluice_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let binary = test.ancestors().nth(2).expect("tests run from target/PROFILE/deps").join("sluice");
    assert!(binary.exists(), "{} is not there: run `cargo build -p sluice` first", binary.display());
    binary
}

/// A loopback port that nobody uses at this moment.
///
/// # Panics
///
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A running `sluice` with its log in a file; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `sluice ARGUMENTS…` with these variables and nothing else of Sluice's.
    pub fn start(
        name: &str,
        folder: &std::path::Path,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).context("make a log file")?;
        let child = Command::new(sluice_binary())
            .args(arguments)
            .env_remove("DEEPSEEK_API_KEY")
            .env_remove("SLUICE_CONFIG")
            .env("SLUICE_DATA_DIR", folder.join("data"))
            .envs(variables.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("start sluice")?;
        Ok(Self { child, log })
    }

    /// Runs `sluice ARGUMENTS…` to its end and returns what it wrote; an exit code other than 0 is an error.
    pub async fn run(
        folder: &std::path::Path,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Result<String> {
        let output = Command::new(sluice_binary())
            .args(arguments)
            .env_remove("DEEPSEEK_API_KEY")
            .env_remove("SLUICE_CONFIG")
            .env("SLUICE_DATA_DIR", folder.join("data"))
            .envs(variables.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "sluice {arguments:?} ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it with SIGKILL and waits for its end.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill a process")
    }

    /// Waits for a URL of it to answer 200.
    pub async fn wait_for_url(&mut self, url: &str) {
        let client = reqwest::Client::new();
        wait_until(&format!("{url} to answer"), Duration::from_secs(30), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the process ended with {status}: {}", self.log());
            }
            client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}
