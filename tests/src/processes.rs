//! Real processes of the real binary, each ended with the test that started it.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sluice_testkit::wait_until;
use tokio::process::{Child, Command};

/// Names another binary than the one beside the test's own.
const BINARY_VARIABLE: &str = "FAULT_LAB_BIN";

/// The binary under test: what `FAULT_LAB_BIN` names, else the one that was built with the test.
///
/// # Panics
///
/// When it is not there; the message says how to build it.
pub fn sluice_binary() -> PathBuf {
    if let Some(named) = std::env::var_os(BINARY_VARIABLE).filter(|named| !named.is_empty()) {
        return named.into();
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    // A test runs from target/PROFILE/deps, a program from target/PROFILE.
    let binary =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("sluice")).find(|path| path.is_file());
    binary.unwrap_or_else(|| panic!("no sluice beside {}: run `cargo build -p sluice` first", own.display()))
}

/// Whether the binary under test has faults and crash points on order: it was built with the feature `failpoints`.
pub fn faults_can_be_ordered() -> Result<bool> {
    let version = std::process::Command::new(sluice_binary()).arg("--version").output();
    let version = version.context("ask for the version")?;
    Ok(String::from_utf8_lossy(&version.stdout).contains("+failpoints"))
}

/// Ports that the system gives to nobody by itself: below what outgoing connections and listeners on port 0 get.
const PORTS: Range<u16> = 10_000..32_000;

/// A loopback port that nobody uses at this moment. It is free again after an end of the process that listens there, and
/// two calls never say the same.
///
/// # Panics
///
/// When there is none.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..PORTS.len() {
        let port = rand::random_range(PORTS);
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no loopback port of {PORTS:?} is free");
}

/// Where a process's log goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogTo {
    /// Into a file of the process's name.
    #[default]
    File,
    /// Into a pipe that nobody reads: once it is full, a write blocks.
    Nobody,
}

/// How a process is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// A program with its own arguments that starts it in turn, such as `nice -n 10`.
    pub launcher: &'a [&'a str],
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Its variables.
    pub variables: &'a [(&'a str, String)],
    /// Where its log goes.
    pub log: LogTo,
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
        folder: &Path,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Self> {
        Self::start_as(name, folder, &Start { arguments, variables, ..Start::default() })
    }

    /// As [`Self::start`], with all that can be said about it.
    pub fn start_as(name: &str, folder: &Path, start: &Start<'_>) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).context("make a log file")?;
        let mut command = command(folder, start);
        match start.log {
            LogTo::File => command.stdout(file.try_clone()?).stderr(file),
            LogTo::Nobody => command.stdout(file).stderr(Stdio::piped()),
        };
        let child = command.kill_on_drop(true).spawn().context("start sluice")?;
        Ok(Self { child, log })
    }

    /// Runs `sluice ARGUMENTS…` to its end and returns what it wrote; an exit code other than 0 is an error.
    pub async fn run(folder: &Path, arguments: &[&str], variables: &[(&str, String)]) -> Result<String> {
        let start = Start { arguments, variables, ..Start::default() };
        let output = command(folder, &start).output().await?;
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

    /// Stops it where it stands (SIGSTOP).
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_end(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.id().context("the process has ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal).with_context(|| format!("send {signal}"))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("look after a process")
    }

    /// Waits until it has ended by itself.
    pub async fn wait_for_end(&mut self, most: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(most, self.child.wait()).await;
        ended.with_context(|| format!("a process did not end within {most:?}"))?.context("wait for a process")
    }

    /// Waits for a URL of it to answer 200.
    pub async fn wait_for_url(&mut self, url: &str) {
        let client = reqwest::Client::new();
        wait_until(&format!("{url} to answer"), Duration::from_mins(1), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the process ended with {status}: {}", self.log());
            }
            client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

fn command(folder: &Path, start: &Start<'_>) -> Command {
    let binary = sluice_binary();
    let mut command = match start.launcher {
        [] => Command::new(binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
    };
    command
        .args(start.arguments)
        .env_remove("DEEPSEEK_API_KEY")
        .env_remove("SLUICE_CONFIG")
        .env_remove("SLUICE_REMOTE")
        .env("SLUICE_DATA_DIR", folder.join("data"))
        .envs(start.variables.iter().map(|(key, value)| (*key, value.as_str())))
        .stdin(Stdio::null());
    command
}
