//! How long the calls of an upstream took lately, by model: what is slow is streamed, and of two targets the quicker one is
//! preferred. Moving averages of this worker alone; nothing rests on them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sluice_domain::ModelName;

/// The share of the newest call in the average.
const NEWEST: f64 = 0.2;
/// No configuration names so many models of an upstream; without routes jobs could.
const MAX_MODELS: usize = 1_000;

/// The averages.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    averages: Mutex<HashMap<ModelName, Duration>>,
}

impl Pace {
    /// How long calls for `model` took lately; `None` before the first.
    pub(crate) fn usual(&self, model: &ModelName) -> Option<Duration> {
        self.averages.lock().unwrap_or_else(PoisonError::into_inner).get(model).copied()
    }

    /// How long calls took for the slowest model.
    pub(crate) fn slowest(&self) -> Option<Duration> {
        self.averages.lock().unwrap_or_else(PoisonError::into_inner).values().max().copied()
    }

    /// A call for `model` was answered after `duration`.
    pub(crate) fn note(&self, model: &ModelName, duration: Duration) {
        let mut averages = self.averages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(average) = averages.get_mut(model) {
            *average = average.mul_f64(1.0 - NEWEST) + duration.mul_f64(NEWEST);
        } else if averages.len() < MAX_MODELS {
            averages.insert(model.clone(), duration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_calls_count_most() {
        let (pace, model) = (Pace::default(), ModelName::new("m").unwrap());
        assert_eq!(pace.usual(&model), None);
        pace.note(&model, Duration::from_secs(10));
        assert_eq!(pace.usual(&model), Some(Duration::from_secs(10)));
        pace.note(&model, Duration::from_secs(20));
        assert_eq!(pace.usual(&model), Some(Duration::from_secs(12)));
    }
}
