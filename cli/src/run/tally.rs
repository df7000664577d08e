//! What a run has done so far, counted. Pure.

use hdrhistogram::Histogram;
use sluice_domain::{JobState, JobView, NanoUsd};

use super::output_file::KeptLine;

/// Latencies are kept to three digits, up to an hour.
const MAX_LATENCY_MS: u64 = 3_600_000;

/// Counts of a run.
#[derive(Debug)]
pub struct Tally {
    /// Lines that are to be worked.
    pub total: u64,
    /// Lines whose results an earlier invocation wrote.
    pub kept: u64,
    /// Of those, the ones that are no success.
    pub kept_failed: u64,
    /// Successes of this invocation.
    pub succeeded: u64,
    /// Failures of this invocation.
    pub failed: u64,
    /// Cancelled by somebody.
    pub cancelled: u64,
    /// Waiting for a person.
    pub held: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Of those, the ones from the provider's cache.
    pub cached_input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Spent by this invocation.
    pub cost: NanoUsd,
    /// Spent by earlier invocations.
    pub kept_cost: NanoUsd,
    latencies_ms: Histogram<u64>,
}

impl Tally {
    /// Begins with what earlier invocations left.
    pub fn new(total: u64, kept: &[KeptLine]) -> Self {
        Self {
            total,
            kept: kept.len() as u64,
            kept_failed: kept.iter().filter(|line| !line.is_success).count() as u64,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            held: 0,
            input_tokens: 0,
            cached_input_tokens: 0,
            output_tokens: 0,
            cost: NanoUsd(0),
            kept_cost: kept.iter().map(|line| line.cost).sum(),
            latencies_ms: Histogram::new_with_max(MAX_LATENCY_MS, 3).expect("the bounds are constants"),
        }
    }

    /// Counts a job that ended.
    pub fn add(&mut self, job: &JobView) {
        match job.state {
            JobState::Succeeded => self.succeeded += 1,
            JobState::Cancelled => self.cancelled += 1,
            _ => self.failed += 1,
        }
        let Some(result) = &job.result else { return };
        self.cost = self.cost + result.cost;
        if let Some(usage) = &result.usage {
            self.input_tokens += usage.input_tokens;
            self.cached_input_tokens += usage.cached_input_tokens;
            self.output_tokens += usage.output_tokens;
        }
        if let Some(ms) = result.duration_ms {
            self.latencies_ms.saturating_record(ms.max(0) as u64);
        }
    }

    /// Results of this invocation.
    pub const fn written(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    /// Lines with a result.
    pub const fn done(&self) -> u64 {
        self.kept + self.written()
    }

    /// Lines with a result that is no success.
    pub const fn not_well(&self) -> u64 {
        self.kept_failed + self.failed + self.cancelled
    }

    /// Spent by all invocations.
    pub fn spent(&self) -> NanoUsd {
        self.cost + self.kept_cost
    }

    /// Whether every line succeeded.
    pub const fn is_all_well(&self) -> bool {
        self.not_well() == 0 && self.held == 0 && self.done() >= self.total
    }

    /// The latency that so many percent of the calls stayed within; `None` without calls.
    pub fn latency_ms(&self, percent: f64) -> Option<u64> {
        (!self.latencies_ms.is_empty()).then(|| self.latencies_ms.value_at_percentile(percent))
    }
}
