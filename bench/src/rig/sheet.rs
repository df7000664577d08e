//! The figures of one benchmark: who, in which variant, which metric, and the value of each run.

/// We.
pub const SLUICE: &str = "sluice";
/// What the machine or Postgres allows, measured in the same run.
pub const LIMIT: &str = "limit";

/// Jobs a second.
pub const JOBS_PER_S: Metric = Metric::new("jobs_per_s", "1/s");
/// Calls a second.
pub const CALLS_PER_S: Metric = Metric::new("calls_per_s", "1/s");
/// Median of a latency.
pub const P50_MS: Metric = Metric::new("p50_ms", "ms");
/// 99th percentile of a latency.
pub const P99_MS: Metric = Metric::new("p99_ms", "ms");
/// Which part of its limit a figure reaches.
pub const USED_RATIO: Metric = Metric::new("used_ratio", "1");

/// What is measured, and in which unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name, with the unit last where it has one.
    pub name: &'static str,
    /// The unit: `1/s`, `ms`, `KB`, `B`, `1`.
    pub unit: &'static str,
}

impl Metric {
    /// A metric of a benchmark of its own.
    pub const fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit }
    }
}

/// One figure with the values of its runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// `sluice`, `limit` or a peer.
    pub who: String,
    /// What was varied, such as `workers=2`; the same word for everybody whose figures may be compared.
    pub variant: String,
    /// What was measured.
    pub metric: Metric,
    /// One value a run.
    pub values: Vec<f64>,
}

/// The middle and the ends of a line's values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// The middle one; of an even count the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Line {
    /// Median, minimum and maximum; `None` without values.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Summary { median, min, max })
    }
}

/// The figures of one benchmark, in the order in which they were first noted.
#[derive(Clone, PartialEq, Debug)]
pub struct Sheet {
    /// The benchmark, such as `L1`.
    pub id: &'static str,
    lines: Vec<Line>,
}

impl Sheet {
    /// An empty one.
    pub const fn new(id: &'static str) -> Self {
        Self { id, lines: Vec::new() }
    }

    /// Notes the value of one run.
    pub fn note(&mut self, who: &str, variant: &str, metric: Metric, value: f64) {
        let known = self
            .lines
            .iter_mut()
            .find(|line| line.who == who && line.variant == variant && line.metric.name == metric.name);
        if let Some(line) = known {
            line.values.push(value);
            return;
        }
        let line = Line { who: who.to_owned(), variant: variant.to_owned(), metric, values: vec![value] };
        self.lines.push(line);
    }

    /// Notes which part of `limit` a value of the same run reaches.
    pub fn note_used(&mut self, variant: &str, value: f64, limit: f64) {
        if limit > 0.0 {
            self.note(SLUICE, variant, USED_RATIO, value / limit);
        }
    }

    /// All lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_same_figure_stand_in_one_line() {
        let mut sheet = Sheet::new("X1");
        for value in [3.0, 1.0, 2.0] {
            sheet.note(SLUICE, "workers=1", JOBS_PER_S, value);
        }
        sheet.note(LIMIT, "workers=1", JOBS_PER_S, 4.0);
        assert_eq!(sheet.lines().len(), 2);
        assert_eq!(sheet.lines()[0].summary(), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        let line =
            Line { who: String::new(), variant: String::new(), metric: P50_MS, values: vec![4.0, 2.0] };
        assert_eq!(line.summary(), Some(Summary { median: 3.0, min: 2.0, max: 4.0 }));
    }
}
