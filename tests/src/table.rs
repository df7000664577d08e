//! The table of `docs/faults.md`: for each row the median and the worst over its seeds, from files of reports.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result};

use crate::rows::{ROWS, Report};

/// Reads files of reports, a line of JSON each.
pub fn read_reports(files: &[PathBuf]) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let report = serde_json::from_str(line);
            reports.push(report.with_context(|| format!("read {}:{number}", file.display()))?);
        }
    }
    Ok(reports)
}

/// A line of Markdown for each row that was run. Figures are medians over the seeds, with the worst behind them where
/// it is another.
pub fn markdown(reports: &[Report]) -> String {
    let mut rows: BTreeMap<u16, Vec<&Report>> = BTreeMap::new();
    for report in reports {
        rows.entry(report.row).or_default().push(report);
    }
    let mut table = String::from(
        "| # | fault | held | jobs | lost | double ends | stale accepted | calls | repeated | not on the ledger | \
         unknown | late kept | late lost | recovery p50 | recovery p99 |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (number, reports) in rows {
        let name = ROWS.iter().find(|row| row.number == number).map_or("", |row| row.name);
        let ran: Vec<&Report> = reports.iter().copied().filter(|report| !report.is_skipped()).collect();
        // Writing to a String can't fail.
        let _ = writeln!(
            table,
            "| {number} | {name} | {} |",
            if ran.is_empty() { skipped(&reports) } else { cells(&ran) }
        );
    }
    table
}

fn skipped(reports: &[&Report]) -> String {
    let reason = reports.first().map_or("", |report| report.detail.as_str());
    format!("{reason}{}", " |".repeat(12))
}

fn cells(reports: &[&Report]) -> String {
    let held = reports.iter().filter(|report| report.ok).count();
    let count =
        |of: fn(&Report) -> usize| figure(reports.iter().map(|report| of(report) as u64).collect(), "");
    let time = |of: fn(&Report) -> Option<u64>| {
        figure(reports.iter().filter_map(|report| of(report)).collect(), " ms")
    };
    [
        format!("{held} of {}", reports.len()),
        count(|report| report.jobs),
        count(|report| report.lost),
        count(|report| report.double_ends),
        count(|report| report.stale_accepted),
        count(|report| report.calls),
        count(|report| report.repeated_calls),
        count(|report| report.repeated_not_on_ledger),
        count(|report| report.unknown),
        count(|report| report.late_kept),
        count(|report| report.late_lost),
        time(|report| report.recovery_ms_p50),
        time(|report| report.recovery_ms_p99),
    ]
    .join(" | ")
}

/// Median, and the largest where it is another.
fn figure(mut values: Vec<u64>, unit: &str) -> String {
    values.sort_unstable();
    let (Some(worst), Some(median)) = (values.last(), values.get(values.len().saturating_sub(1) / 2)) else {
        return "–".to_owned();
    };
    if worst == median { format!("{median}{unit}") } else { format!("{median}{unit}, worst {worst}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_median_and_the_worst_of_its_seeds() {
        let report = |seed, ok, unknown, p99| Report {
            row: 1,
            seed,
            ok,
            jobs: 100,
            unknown,
            recovery_ms_p99: p99,
            ..Report::default()
        };
        let reports =
            [report(1, true, 3, Some(900)), report(2, true, 9, Some(500)), report(3, false, 4, None)];
        let table = markdown(&reports);
        let line = table.lines().last().unwrap();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[3..5], ["2 of 3", "100"]);
        assert_eq!(cells[11], "4, worst 9");
        assert_eq!(cells[14..16], ["–", "500 ms, worst 900 ms"]);
    }

    #[test]
    fn a_skipped_row_says_why_and_has_as_many_cells() {
        let skipped = Report { row: 9, detail: "skipped: no disk".to_owned(), ..Report::default() };
        let table = markdown(&[skipped]);
        let bars: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(bars, [16, 16, 16], "{table}");
    }
}
