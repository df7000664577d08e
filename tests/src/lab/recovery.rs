//! How soon things went on again, read from the records.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_domain::{JobId, LeaseId};

use crate::history::{Attempt, Call};

/// Times until something went on, one for each job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery(Vec<Duration>);

impl Recovery {
    /// How long after `since` the jobs of these leases were leased again. Jobs that were not (their worker's word came
    /// first, or they are held) are left out.
    pub fn of_leases(leases: &[(JobId, LeaseId)], since: DateTime<Utc>, attempts: &[Attempt]) -> Self {
        let lost: BTreeSet<LeaseId> = leases.iter().map(|(_, lease)| *lease).collect();
        let mut by_job: BTreeMap<JobId, Vec<&Attempt>> = BTreeMap::new();
        for attempt in attempts {
            by_job.entry(attempt.job_id).or_default().push(attempt);
        }
        let again = |(job, lease): &(JobId, LeaseId)| {
            let attempts = by_job.get(job)?;
            let number = attempts.iter().find(|attempt| attempt.lease_id == *lease)?.lease_no;
            let next = attempts
                .iter()
                .filter(|attempt| attempt.lease_no > number && !lost.contains(&attempt.lease_id));
            let next = next.map(|attempt| attempt.begun_at).min()?;
            (next - since).to_std().ok()
        };
        Self(leases.iter().filter_map(again).collect())
    }

    /// One time.
    pub fn of(time: Duration) -> Self {
        Self(vec![time])
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that so many in a hundred did not exceed (nearest rank); none where nothing had to go on.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

/// Calls a second that arrived between two moments.
pub fn rate_between(calls: &[Call], from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let arrived = calls.iter().filter(|call| call.arrived_at >= from && call.arrived_at < to).count();
    arrived as f64 / (to - from).as_seconds_f64()
}

/// How long after `since` the first window of calls began that holds at least `rate` calls a second; none within `most`.
pub fn rate_is_back(
    calls: &[Call],
    since: DateTime<Utc>,
    rate: f64,
    window: Duration,
    most: Duration,
) -> Option<Duration> {
    let window = TimeDelta::from_std(window).ok()?;
    let steps = most.as_millis() / 100;
    (0..=steps as i32).map(|step| TimeDelta::milliseconds(100) * step).find_map(|after| {
        let from = since + after;
        (rate_between(calls, from, from + window) >= rate).then(|| after.to_std().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let of = |times: &[u64]| Recovery(times.iter().map(|ms| Duration::from_millis(*ms)).collect());
        assert_eq!(of(&[]).percentile(99), None);
        assert_eq!(of(&[7]).percentile(50), Some(Duration::from_millis(7)));
        assert_eq!(of(&[3, 1, 2]).percentile(50), Some(Duration::from_millis(2)));
        assert_eq!(of(&[3, 1, 2]).percentile(99), Some(Duration::from_millis(3)));
    }
}
