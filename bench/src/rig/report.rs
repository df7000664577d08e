//! Figures as people and scripts read them: a table on stdout, a JSON line a figure in a file.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::sheet::{Line, Sheet, Summary};

/// Where figures go.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file that lines are appended to.
    pub json: Option<PathBuf>,
    /// The commit that was measured.
    pub commit: String,
}

impl Report {
    /// Prints the sheet and appends its lines.
    pub fn publish(&self, sheet: &Sheet) -> Result<()> {
        let mut text = table(sheet);
        text.push('\n');
        std::io::stdout().write_all(text.as_bytes()).context("write the table")?;
        let Some(path) = &self.json else { return Ok(()) };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("open {}", path.display()))?;
        for line in sheet.lines() {
            if let Some(summary) = line.summary() {
                writeln!(file, "{}", self.json_line(sheet.id, line, summary)).context("append a figure")?;
            }
        }
        Ok(())
    }

    fn json_line(&self, id: &str, line: &Line, summary: Summary) -> String {
        json!({
            "id": id, "who": line.who, "variant": line.variant, "metric": line.metric.name,
            "unit": line.metric.unit, "median": rounded(summary.median), "min": rounded(summary.min),
            "max": rounded(summary.max), "runs": line.values.len(), "commit": self.commit,
        })
        .to_string()
    }
}

fn table(sheet: &Sheet) -> String {
    let mut rows =
        vec![["id", "variant", "metric", "who", "median", "min", "max", "unit"].map(str::to_owned)];
    for line in sheet.lines() {
        let Some(summary) = line.summary() else { continue };
        rows.push([
            sheet.id.to_owned(),
            line.variant.clone(),
            line.metric.name.to_owned(),
            line.who.clone(),
            readable(summary.median),
            readable(summary.min),
            readable(summary.max),
            line.metric.unit.to_owned(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    rows.iter().map(|row| aligned(row, &widths)).collect::<Vec<_>>().join("\n")
}

/// Words to the left, numbers to the right.
fn aligned(row: &[String; 8], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        if (4..7).contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// As many digits as say something.
fn readable(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{JOBS_PER_S, SLUICE};

    #[test]
    fn a_line_has_the_fields_that_scripts_read() {
        let mut sheet = Sheet::new("L1");
        sheet.note(SLUICE, "workers=2", JOBS_PER_S, 41_000.5);
        let report = Report { json: None, commit: "abc".to_owned() };
        let line = &sheet.lines()[0];
        let text = report.json_line(sheet.id, line, line.summary().unwrap());
        assert_eq!(
            text,
            "{\"id\":\"L1\",\"who\":\"sluice\",\"variant\":\"workers=2\",\"metric\":\"jobs_per_s\",\"unit\":\"1/s\",\
             \"median\":41000.5,\"min\":41000.5,\"max\":41000.5,\"runs\":1,\"commit\":\"abc\"}"
        );
    }

    #[test]
    fn a_table_stands_in_columns() {
        let mut sheet = Sheet::new("L1");
        sheet.note(SLUICE, "workers=2", JOBS_PER_S, 41_000.5);
        let text = table(&sheet);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("metric"), lines[1].find("jobs_per_s"));
        assert!(lines[1].contains("41000"), "{text}");
    }
}
