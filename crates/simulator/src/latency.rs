//! How long answers take: drawn from a distribution, by the call's own generator. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{error::SimulatorError, random::SplitMix};

/// How far p99 lies from p50 in standard deviations of a normal distribution.
const Z_P99: f64 = 2.326_347_874;
/// No draw is longer than an hour, whatever the distribution's tail says.
const MAX_DRAW_MS: f64 = 3_600_000.0;

/// How long answers take.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// From the arrival of a call to the first token of its answer.
    pub first_token: Distribution,
    /// From token to token; drawn once a call. A plain answer waits for all of them.
    pub per_token: Distribution,
}

/// Where a time comes from, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same.
    Fixed {
        /// The time.
        ms: f64,
    },
    /// Anything between the two.
    Uniform {
        /// At least.
        min_ms: f64,
        /// At most.
        max_ms: f64,
    },
    /// Log-normal: most are quick, a few are very slow.
    Lognormal {
        /// The median.
        p50_ms: f64,
        /// What one in a hundred exceeds.
        p99_ms: f64,
    },
}

impl Default for Distribution {
    fn default() -> Self {
        Self::Fixed { ms: 0.0 }
    }
}

impl Distribution {
    /// A time that never varies, in milliseconds.
    pub const fn fixed(ms: f64) -> Self {
        Self::Fixed { ms }
    }

    /// Whether every draw is the same.
    pub(crate) const fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed { .. })
    }

    pub(crate) fn draw(&self, random: &mut SplitMix) -> Duration {
        let ms = match *self {
            Self::Fixed { ms } => ms,
            Self::Uniform { min_ms, max_ms } => min_ms + (max_ms - min_ms) * random.next_unit(),
            Self::Lognormal { p50_ms, p99_ms } => {
                let sigma = (p99_ms / p50_ms).ln() / Z_P99;
                p50_ms * (sigma * random.next_normal()).exp()
            }
        };
        Duration::from_secs_f64(ms.clamp(0.0, MAX_DRAW_MS) / 1_000.0)
    }

    fn is_sane(&self) -> bool {
        let in_range = |ms: f64| (0.0..=MAX_DRAW_MS).contains(&ms);
        match *self {
            Self::Fixed { ms } => in_range(ms),
            Self::Uniform { min_ms, max_ms } => in_range(min_ms) && in_range(max_ms) && min_ms <= max_ms,
            Self::Lognormal { p50_ms, p99_ms } => {
                in_range(p50_ms) && in_range(p99_ms) && p50_ms > 0.0 && p50_ms <= p99_ms
            }
        }
    }
}

impl Latency {
    /// Refuses times that are negative, not numbers, over an hour, or in the wrong order.
    pub(crate) fn validate(&self) -> Result<(), SimulatorError> {
        for (name, distribution) in [("first_token", &self.first_token), ("per_token", &self.per_token)] {
            if !distribution.is_sane() {
                let problem = format!("latency.{name} must hold 0 to 3600000 ms in ascending order");
                return Err(SimulatorError::Config(problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lognormal_has_the_percentiles_it_was_given() {
        let distribution = Distribution::Lognormal { p50_ms: 100.0, p99_ms: 1_000.0 };
        let mut random = SplitMix::from_parts(&[11]);
        let mut ms: Vec<f64> =
            (0..20_000).map(|_| distribution.draw(&mut random).as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        assert!((95.0..105.0).contains(&ms[10_000]), "p50 {}", ms[10_000]);
        assert!((850.0..1_150.0).contains(&ms[19_800]), "p99 {}", ms[19_800]);
    }

    #[test]
    fn a_uniform_stays_between_its_ends() {
        let distribution = Distribution::Uniform { min_ms: 5.0, max_ms: 6.0 };
        let mut random = SplitMix::from_parts(&[12]);
        for _ in 0..100 {
            let ms = distribution.draw(&mut random).as_secs_f64() * 1e3;
            assert!((5.0..=6.0).contains(&ms), "{ms}");
        }
    }
}
