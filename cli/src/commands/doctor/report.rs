//! What a check-up found, a line each.

use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::{exit::Exit, table::one_line};

/// How a check went, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// Jobs are lost, stand still or can't be submitted.
    Fail,
}

impl Verdict {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Fail => "\x1b[31m",
        }
    }
}

/// The findings, in order.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<(Verdict, &'static str, String)>,
    has_unreachable: bool,
}

impl Report {
    /// Adds a finding: about what, and what was found, with what to do where that is something.
    pub fn add(&mut self, verdict: Verdict, about: &'static str, finding: &str) {
        self.findings.push((verdict, about, one_line(finding)));
    }

    /// Adds that something could not be reached.
    pub fn add_unreachable(&mut self, about: &'static str, finding: &str) {
        self.has_unreachable = true;
        self.add(Verdict::Fail, about, finding);
    }

    /// The exit code that all this means.
    pub fn exit(&self) -> Exit {
        if self.has_unreachable {
            Exit::Unreachable
        } else if self.worst() == Verdict::Fail {
            Exit::SomeJobsFailed
        } else {
            Exit::Done
        }
    }

    /// The worst of all.
    pub fn worst(&self) -> Verdict {
        self.findings.iter().map(|(verdict, ..)| *verdict).max().unwrap_or(Verdict::Ok)
    }

    /// For people.
    pub fn text(&self) -> String {
        let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let lines = self.findings.iter().map(|(verdict, about, finding)| {
            let (on, off) = if is_coloured { (verdict.colour(), "\x1b[0m") } else { ("", "") };
            format!("{on}{:<4}{off}  {about:<15}{finding}", verdict.as_str())
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// For scripts.
    pub fn json(&self) -> Vec<Value> {
        let findings = self.findings.iter();
        findings
            .map(|(verdict, about, finding)| json!({ "verdict": verdict.as_str(), "about": about, "finding": finding }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Verdict::Ok);
        report.add(Verdict::Fail, "database", "gone");
        report.add(Verdict::Warn, "clocks", "2 s apart");
        assert_eq!((report.worst(), report.exit()), (Verdict::Fail, Exit::SomeJobsFailed));
        assert_eq!(report.json()[1], json!({ "verdict": "warn", "about": "clocks", "finding": "2 s apart" }));
        report.add_unreachable("upstreams", "gone");
        assert_eq!(report.exit(), Exit::Unreachable);
    }
}
