//! A simulated upstream as a process of its own, and what its ledger says of the calls that it received.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    http::{Connection, host_of, post},
    processes::Sluice,
};

/// A simulator that runs.
#[derive(Debug)]
pub struct Simulated {
    process: Sluice,
    ledger: PathBuf,
    /// Where it is called.
    pub base_url: String,
}

impl Simulated {
    /// Starts one with these settings, of which `listen` and `ledger` are set here. `name` names its files in `folder`, and
    /// `listen` is where one was before, or nothing.
    pub async fn start(folder: &Path, name: &str, listen: Option<&str>, mut settings: Value) -> Result<Self> {
        let ledger = folder.join(format!("{name}.jsonl"));
        settings["listen"] = json!(listen.unwrap_or("127.0.0.1:0"));
        settings["ledger"] = json!(ledger);
        settings["require_key"] = json!(false);
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, settings.to_string()).context("write a simulator's settings")?;
        let file = file.to_str().context("a folder's name is no text")?;
        let mut process = Sluice::start(name, folder, &["sim", "--settings", file, "--output", "json"], &[])?;
        let line = process.first_line().await?;
        let base_url = line["base_url"].as_str().context("the simulator tells its address")?.to_owned();
        Ok(Self { process, ledger, base_url })
    }

    /// Changes its settings, for calls that arrive from now on.
    pub async fn change(&self, patch: &Value) -> Result<()> {
        let host = host_of(&self.base_url)?;
        let request = post(host, "/sim/config", patch.to_string().as_bytes());
        let mut connection = Connection::open(host).await?;
        let answer = connection.ask(&request).await?;
        ensure!(answer.status == 200, "the simulator refused {patch} with {}", answer.status);
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.process.id().context("the simulator has ended")?;
        kill(Pid::from_raw(id), signal).context("send the simulator a signal")
    }

    /// Lets it end.
    pub async fn stop(mut self) -> Result<CallLog> {
        self.process.stop().await?;
        self.calls()
    }

    /// What it has received so far.
    pub fn calls(&self) -> Result<CallLog> {
        CallLog::of(&fs::read_to_string(&self.ledger).context("read a simulator's ledger")?)
    }
}

/// The clock that ledgers are written by.
#[expect(clippy::disallowed_methods, reason = "processes of one machine are compared by its clock")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The calls that simulators received.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CallLog {
    /// In the order of their arrival.
    pub calls: Vec<LoggedCall>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedCall {
    /// When it arrived.
    pub arrived_at: DateTime<Utc>,
    /// When its last byte was sent; `None`: it was cut, or is under way.
    pub ended_at: Option<DateTime<Utc>>,
    /// What it was answered with.
    pub status: Option<u16>,
}

#[derive(Deserialize)]
struct Line {
    call: u64,
    arrived_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    status: Option<u16>,
}

impl CallLog {
    /// Reads a ledger. Its last line may be cut, where the simulator was killed.
    fn of(text: &str) -> Result<Self> {
        let mut calls: HashMap<u64, LoggedCall> = HashMap::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let line = match serde_json::from_str::<Line>(line) {
                Err(_) if lines.peek().is_none() => break,
                line => line.context("read a ledger's line")?,
            };
            if let Some(arrived_at) = line.arrived_at {
                calls.insert(line.call, LoggedCall { arrived_at, ended_at: None, status: None });
            } else if let Some(call) = calls.get_mut(&line.call) {
                (call.ended_at, call.status) = (line.ended_at, line.status);
            }
        }
        let mut calls: Vec<_> = calls.into_values().collect();
        calls.sort_unstable_by_key(|call| call.arrived_at);
        Ok(Self { calls })
    }

    /// The calls of several simulators together.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.calls.extend(other.calls);
        self.calls.sort_unstable_by_key(|call| call.arrived_at);
        self
    }

    /// How many arrived in a stretch of time.
    pub fn arrived(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> usize {
        self.within(from, to).count()
    }

    /// How many of those were refused.
    pub fn refused(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> usize {
        self.within(from, to).filter(|call| call.status == Some(429)).count()
    }

    /// How many calls were under way on average, refused ones not among them.
    pub fn under_way(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
        let length = (to - from).as_seconds_f64();
        let time: f64 = self
            .calls
            .iter()
            .filter(|call| call.status != Some(429))
            .map(|call| {
                let (begin, end) = (call.arrived_at.max(from), call.ended_at.unwrap_or(to).min(to));
                (end - begin).max(TimeDelta::zero()).as_seconds_f64()
            })
            .sum();
        if length > 0.0 { time / length } else { 0.0 }
    }

    /// The seconds from `from` on until the first second of which `is_so` is true, by tenths; `None`: not before `to`.
    pub fn until(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        is_so: impl Fn(&Self, DateTime<Utc>, DateTime<Utc>) -> bool,
    ) -> Option<f64> {
        let second = TimeDelta::seconds(1);
        let last = (to - from - second).num_milliseconds().max(-1).div_euclid(100);
        (0..=last)
            .map(|tenth| from + TimeDelta::milliseconds(tenth * 100))
            .find(|at| is_so(self, *at, *at + second))
            .map(|at| (at - from).as_seconds_f64())
    }

    fn within(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = &LoggedCall> {
        let begin = self.calls.partition_point(|call| call.arrived_at < from);
        self.calls[begin..].iter().take_while(move |call| call.arrived_at < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms)
    }

    fn log(calls: &[(i64, i64, u16)]) -> CallLog {
        let lines = calls.iter().enumerate().flat_map(|(call, (arrived, ended, status))| {
            [
                json!({"call": call, "arrived_at": at(*arrived)}).to_string(),
                json!({"call": call, "ended_at": at(*ended), "status": status}).to_string(),
            ]
        });
        let text = lines.chain(["{\"call\": 9, \"arr".to_owned()]).collect::<Vec<_>>().join("\n");
        CallLog::of(&text).unwrap()
    }

    #[test]
    fn calls_are_counted_where_they_arrive_and_weighed_while_they_last() {
        let log = log(&[(0, 2_000, 200), (500, 1_500, 200), (700, 701, 429)]);
        assert_eq!((log.arrived(at(0), at(1_000)), log.refused(at(0), at(1_000))), (3, 1));
        assert_eq!(log.arrived(at(500), at(700)), 1);
        assert!((log.under_way(at(0), at(1_000)) - 1.5).abs() < 1e-9);
        assert!((log.under_way(at(1_500), at(2_500)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_first_second_of_which_something_is_true_is_found() {
        let log = log(&[(1_200, 1_300, 200), (1_900, 2_000, 200), (2_150, 2_200, 200)]);
        let three = |log: &CallLog, from, to| log.arrived(from, to) == 3;
        let found = log.until(at(0), at(5_000), three).unwrap();
        assert!((found - 1.2).abs() < 1e-9, "{found}");
        assert_eq!(log.until(at(0), at(2_000), three), None);
    }
}
