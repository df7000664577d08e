//! What a simulator's ledger says of a party that paced its calls.

use std::{collections::HashMap, fmt, fs, path::Path};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::work::Allowance;

/// What a party did.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Paced {
    /// Calls that the upstream received.
    pub calls: u64,
    /// Those that it refused with 429.
    pub refused: u64,
    /// Those that it answered well.
    pub finished: u64,
    /// The tokens of these.
    pub tokens: u64,
    /// From the first call's arrival to the last answer's end.
    pub seconds: f64,
    /// What became finished work of the allowance that bound, over as many whole windows as there were from the first
    /// arrival to the last; `None` where there was not even one.
    pub used_ratio: Option<f64>,
}

impl fmt::Display for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.used_ratio.unwrap_or_default() * 100.0;
        write!(f, "{used:.1} % used, {:.1} of 1,000 refused, {:.0} s", self.refused_per_1000(), self.seconds)
    }
}

impl Paced {
    /// How many of a thousand calls were refused.
    pub fn refused_per_1000(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.refused as f64 * 1_000.0 / self.calls as f64 }
    }

    /// Reads the ledger in `file`; there must be so many good answers.
    pub fn read(file: &Path, answers: u64, allowance: Allowance) -> Result<Self> {
        let text = fs::read_to_string(file).context("read a simulator's ledger")?;
        let paced = Self::of(&text, allowance)?;
        ensure!(paced.finished == answers, "{} of {answers} calls were answered well", paced.finished);
        Ok(paced)
    }

    fn of(text: &str, allowance: Allowance) -> Result<Self> {
        let mut arrivals = HashMap::new();
        let mut finished = Vec::new();
        let mut refused = 0;
        for line in text.lines() {
            let line: Line = serde_json::from_str(line).context("read a ledger's line")?;
            match (line.arrived_at, line.ended_at, line.status) {
                (Some(arrived_at), ..) => {
                    arrivals.insert(line.call, arrived_at);
                }
                (None, Some(ended_at), Some(200)) => {
                    let arrived_at = *arrivals.get(&line.call).context("a call that never arrived")?;
                    let tokens = line.usage.input_tokens + line.usage.output_tokens;
                    finished.push(Finished { arrived_at, ended_at, tokens });
                }
                (None, _, Some(429)) => refused += 1,
                _ => {}
            }
        }
        let first = arrivals.values().min().copied().unwrap_or_default();
        let last = finished.iter().map(|call| call.ended_at).max().unwrap_or(first);
        Ok(Self {
            calls: arrivals.len() as u64,
            refused,
            finished: finished.len() as u64,
            tokens: finished.iter().map(|call| call.tokens).sum(),
            seconds: (last - first).as_seconds_f64(),
            used_ratio: used_ratio(&finished, first, allowance),
        })
    }
}

#[derive(Deserialize)]
struct Line {
    call: u64,
    arrived_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    status: Option<u16>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
}

struct Finished {
    arrived_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    tokens: u64,
}

fn used_ratio(finished: &[Finished], first: DateTime<Utc>, allowance: Allowance) -> Option<f64> {
    let last = finished.iter().map(|call| call.arrived_at).max()?;
    let windows = (last - first).num_seconds() / allowance.window_s as i64;
    let until = first + TimeDelta::seconds(windows * allowance.window_s as i64);
    let within: Vec<&Finished> = finished.iter().filter(|call| call.arrived_at < until).collect();
    let share = |used: u64, allowed: u64| used as f64 / (allowed as f64 * windows as f64);
    (windows > 0).then(|| {
        let tokens = within.iter().map(|call| call.tokens).sum();
        share(tokens, allowance.tokens).max(share(within.len() as u64, allowance.requests))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALLOWANCE: Allowance = Allowance { requests: 10, tokens: 100, window_s: 60 };

    fn ledger(calls: &[(i64, i64, u16, u64)]) -> String {
        let at = |second: i64| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(second);
        let lines = calls.iter().enumerate().flat_map(|(call, (arrived, ended, status, tokens))| {
            [
                json!({"call": call, "arrived_at": at(*arrived)}),
                json!({"call": call, "ended_at": at(*ended), "status": status,
                       "usage": {"input_tokens": tokens, "output_tokens": 0}}),
            ]
        });
        lines.map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn whole_windows_count_and_refusals_are_no_work() {
        let text = ledger(&[(0, 1, 200, 60), (1, 1, 429, 0), (2, 3, 200, 30), (61, 63, 200, 50)]);
        let paced = Paced::of(&text, ALLOWANCE).unwrap();
        assert_eq!((paced.calls, paced.refused, paced.finished, paced.tokens), (4, 1, 3, 140));
        assert!((paced.seconds - 63.0).abs() < 1e-9);
        assert!((paced.used_ratio.unwrap() - 0.9).abs() < 1e-9);
        assert!((paced.refused_per_1000() - 250.0).abs() < 1e-9);
    }

    #[test]
    fn less_than_a_window_says_nothing_of_use() {
        assert_eq!(Paced::of(&ledger(&[(0, 1, 200, 60)]), ALLOWANCE).unwrap().used_ratio, None);
    }
}
