//! What a row reports: the line of JSON that `tests/faults` appends for it.

use std::{fmt::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use super::Case;
use crate::lab::{Reckoning, Recovery};

/// Broken invariants that are named in the detail; the rest is counted.
const MAX_NAMED: usize = 5;

/// One run of one row, as scripts read it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The row.
    pub row: u16,
    /// The seed that repeats it.
    pub seed: u64,
    /// Whether all held.
    pub ok: bool,
    /// Jobs that were acknowledged.
    pub jobs: usize,
    /// Of these, jobs that are not there or never came to rest.
    pub lost: usize,
    /// Ends that were written twice, or changed.
    pub double_ends: usize,
    /// Ends by a lease that no longer was the job's.
    pub stale_accepted: usize,
    /// Calls that the upstream received.
    pub calls: usize,
    /// Calls that follow one that was answered well or cut.
    pub repeated_calls: usize,
    /// Of these, calls that no attempt on the ledger explains.
    pub repeated_not_on_ledger: usize,
    /// Attempts that ended as unknown or lost.
    pub unknown: usize,
    /// Answers that came late and were kept.
    pub late_kept: usize,
    /// Answers that a living worker got and nobody kept.
    pub late_lost: usize,
    /// Half of what had to go on did so within this time; none where nothing had to.
    pub recovery_ms_p50: Option<u64>,
    /// 99 in 100 did so within this time.
    pub recovery_ms_p99: Option<u64>,
    /// What fell short, and what else is worth knowing.
    pub detail: String,
}

/// What marks a row that could not be run here.
const SKIPPED: &str = "skipped: ";

impl Report {
    /// A row in which all held, told without the three records.
    pub fn sound(case: &Case) -> Self {
        Self { row: case.row, seed: case.seed, ok: true, ..Self::default() }
    }

    /// A row that can't be run here, and why.
    pub fn skipped(case: &Case, reason: &str) -> Self {
        Self { row: case.row, seed: case.seed, detail: format!("{SKIPPED}{reason}"), ..Self::default() }
    }

    /// A row that could not be run to its end.
    pub fn broken(case: &Case, reason: &str) -> Self {
        let detail = format!("it could not be run to its end: {reason}");
        Self { row: case.row, seed: case.seed, detail, ..Self::default() }
    }

    /// Names the part of its row that it is of.
    #[must_use]
    pub fn of_part(self, name: &str) -> Self {
        Self { detail: format!("{name}: {}", self.detail), ..self }
    }

    /// Of two parts of a row, both together. Of times, the longer ones.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            ok: self.ok && other.ok,
            jobs: self.jobs + other.jobs,
            lost: self.lost + other.lost,
            double_ends: self.double_ends + other.double_ends,
            stale_accepted: self.stale_accepted + other.stale_accepted,
            calls: self.calls + other.calls,
            repeated_calls: self.repeated_calls + other.repeated_calls,
            repeated_not_on_ledger: self.repeated_not_on_ledger + other.repeated_not_on_ledger,
            unknown: self.unknown + other.unknown,
            late_kept: self.late_kept + other.late_kept,
            late_lost: self.late_lost + other.late_lost,
            recovery_ms_p50: self.recovery_ms_p50.max(other.recovery_ms_p50),
            recovery_ms_p99: self.recovery_ms_p99.max(other.recovery_ms_p99),
            detail: format!("{}. {}", self.detail, other.detail),
            ..self
        }
    }

    /// Whether it was skipped.
    pub fn is_skipped(&self) -> bool {
        self.detail.starts_with(SKIPPED)
    }
}

/// What a row finds besides what the checker does.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    shortfalls: Vec<String>,
    notes: Vec<String>,
    recovery: Recovery,
}

impl Findings {
    /// Demands something of this row; `said` is told where it does not hold.
    pub fn demand(&mut self, holds: bool, said: impl FnOnce() -> String) {
        if !holds {
            self.shortfalls.push(said());
        }
    }

    /// Something worth knowing that is no fault.
    pub fn note(&mut self, said: impl Into<String>) {
        self.notes.push(said.into());
    }

    /// Times until things went on, which the report shows.
    pub fn recovered(&mut self, recovery: Recovery) {
        self.recovery = std::mem::take(&mut self.recovery).and(recovery);
    }

    /// Demands that 99 in 100 went on within `most`.
    pub fn demand_recovered_within(&mut self, most: Duration) {
        let p99 = self.recovery.percentile(99).unwrap_or_default();
        self.demand(p99 <= most, || format!("it took {p99:?} (p99) to go on; at most {most:?} is allowed"));
    }

    /// Demands that no call was repeated, and that no outcome is lost or unknown.
    pub fn demand_no_repetition(&mut self, reckoning: &Reckoning) {
        let (repeated, unknown) = (reckoning.figures.repeated, reckoning.figures.unknown_or_lost);
        self.demand(repeated == 0, || format!("{repeated} calls were repeated"));
        self.demand(unknown == 0, || format!("{unknown} attempts ended as lost or unknown"));
    }

    /// The report: what the checker says of the records, and what this row found.
    pub fn report(self, case: &Case, reckoning: &Reckoning) -> Report {
        let ms = |percent| self.recovery.percentile(percent).map(|time| time.as_millis() as u64);
        let figures = &reckoning.figures;
        Report {
            row: case.row,
            seed: case.seed,
            ok: self.shortfalls.is_empty() && reckoning.violations.is_empty(),
            jobs: figures.jobs,
            lost: figures.lost,
            double_ends: figures.double_ends,
            stale_accepted: figures.stale_accepted,
            calls: figures.calls,
            repeated_calls: figures.repeated,
            repeated_not_on_ledger: figures.repeated_not_on_ledger,
            unknown: figures.unknown_or_lost,
            late_kept: figures.late_kept,
            late_lost: figures.late_lost,
            recovery_ms_p50: ms(50),
            recovery_ms_p99: ms(99),
            detail: self.detail(reckoning),
        }
    }

    fn detail(&self, reckoning: &Reckoning) -> String {
        let violations = &reckoning.violations;
        let mut parts = self.shortfalls.clone();
        if !violations.is_empty() {
            let named: Vec<String> =
                violations.iter().take(MAX_NAMED).map(|found| format!("{found:?}")).collect();
            let mut said = format!("{} broken: {}", violations.len(), named.join(", "));
            if violations.len() > MAX_NAMED {
                // Writing to a String can't fail.
                let _ = write!(said, " and {} more", violations.len() - MAX_NAMED);
            }
            parts.push(said);
        }
        parts.extend(self.notes.iter().cloned());
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::rows::Scale;

    #[test]
    fn a_line_has_all_the_fields_that_scripts_read() {
        let case = Case { row: 4, seed: 7, scale: Scale::Full, folder: PathBuf::new() };
        let line = serde_json::to_value(Report::skipped(&case, "no server programs")).unwrap();
        let fields: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields.join(" "),
            "row seed ok jobs lost double_ends stale_accepted calls repeated_calls repeated_not_on_ledger unknown \
             late_kept late_lost recovery_ms_p50 recovery_ms_p99 detail"
        );
    }

    #[test]
    fn two_parts_are_counted_together_and_both_must_hold() {
        let case = Case { row: 16, seed: 7, scale: Scale::Full, folder: PathBuf::new() };
        let one = Report { jobs: 3, recovery_ms_p99: Some(5), ..Report::sound(&case) }.of_part("One");
        let two = Report { ok: false, jobs: 4, lost: 1, detail: "x".to_owned(), ..one.clone() };
        let both = one.and(&two.of_part("Two"));
        assert_eq!((both.row, both.seed, both.ok), (16, 7, false));
        assert_eq!((both.jobs, both.lost, both.recovery_ms_p99), (7, 1, Some(5)));
        assert_eq!(both.detail, "One: . Two: x");
    }
}
