//! Latencies of many operations, as percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Ten minutes: what takes longer counts as that.
const MOST_MICROS: u64 = 600_000_000;

/// How long operations took, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_MICROS, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Notes one.
    pub fn note(&mut self, took: Duration) {
        self.0.saturating_record((took.as_micros() as u64).max(1));
    }

    /// Adds those of another task.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The given percentile, in milliseconds; 0 where nothing was noted.
    pub fn percentile_ms(&self, percentile: f64) -> f64 {
        self.0.value_at_quantile(percentile / 100.0) as f64 / 1_000.0
    }

    /// The largest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latencies = Latencies::default();
        for ms in 1..=100 {
            latencies.note(Duration::from_millis(ms));
        }
        assert!((latencies.percentile_ms(50.0) - 50.0).abs() < 0.1);
        assert!((latencies.percentile_ms(99.0) - 99.0).abs() < 0.1);
        assert_eq!(latencies.count(), 100);
    }
}
