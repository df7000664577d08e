//! Quantities with their units.

use std::{fmt, iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How urgent a job is: 1 to 5, 5 first, 3 where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct Priority(u8);

/// A priority outside 1 to 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("priority {0} is not one of 1 to 5 (5 is most urgent)")]
pub struct InvalidPriority(pub i64);

impl Priority {
    /// The first to be leased.
    pub const MOST_URGENT: Self = Self(5);
    /// The last to be leased.
    pub const LEAST_URGENT: Self = Self(1);

    /// Checks a number that a user gave.
    pub fn new(value: i64) -> Result<Self, InvalidPriority> {
        u8::try_from(value).ok().filter(|p| (1..=5).contains(p)).map(Self).ok_or(InvalidPriority(value))
    }

    /// The number, 1 to 5.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(3)
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A number of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenCount(pub u64);

impl Add for TokenCount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for TokenCount {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Add::add)
    }
}

/// Money in billionths of a US dollar. Providers price a million tokens to a thousandth of a dollar, so the price of
/// a single token is a whole number of these and sums are exact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// The amount in dollars, for showing.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// An amount that a user gave in dollars; `None` where it is negative, not a number, or absurdly large.
    pub fn from_usd(usd: f64) -> Option<Self> {
        let nanos = (usd * 1e9).round();
        (nanos.is_finite() && (0.0..9e18).contains(&nanos)).then_some(Self(nanos as i64))
    }
}

impl Add for NanoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Add::add)
    }
}

impl fmt::Display for NanoUsd {
    /// Dollars with as many decimals as a reader needs: `$12.34`, `$0.0123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usd = self.as_usd();
        if usd == 0.0 || usd.abs() >= 1.0 { write!(f, "${usd:.2}") } else { write!(f, "${usd:.6}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_outside_one_to_five_is_refused() {
        assert_eq!(Priority::new(0), Err(InvalidPriority(0)));
        assert_eq!(Priority::new(6), Err(InvalidPriority(6)));
        assert_eq!(Priority::new(5), Ok(Priority::MOST_URGENT));
    }

    #[test]
    fn money_from_a_user_is_never_negative_or_nan() {
        assert_eq!(NanoUsd::from_usd(-1.0), None);
        assert_eq!(NanoUsd::from_usd(f64::NAN), None);
        assert_eq!(NanoUsd::from_usd(f64::INFINITY), None);
        assert_eq!(NanoUsd::from_usd(0.003), Some(NanoUsd(3_000_000)));
    }
}
