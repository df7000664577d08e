//! What a fail-over to a standby that lagged behind took back: transactions that had been committed on the server that
//! was left, and never came to the one that went on.
//!
//! It is read, not guessed: from the server that was left, once nobody uses it any more, and from the standby right after
//! its promotion, before anybody does. What is in the first and not in the second is excused by the checker, and counted
//! by whoever reports; everything else is judged as ever.

use std::collections::{BTreeMap, BTreeSet};

use sluice_domain::{JobId, LeaseId};

use super::{Attempt, LateAnswer, Place};

/// What one server holds at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The key of each job.
    pub keys: BTreeMap<JobId, String>,
    /// Where jobs stand.
    pub places: Vec<Place>,
    /// The ledger.
    pub attempts: Vec<Attempt>,
    /// Answers that came late.
    pub late: Vec<LateAnswer>,
}

impl Standing {
    fn answers(&self) -> BTreeSet<String> {
        let settled = self.attempts.iter().filter_map(|attempt| attempt.call_id.clone());
        settled.chain(self.late.iter().filter_map(|answer| answer.call_id.clone())).collect()
    }
}

/// What is lost with a server. Empty where no fail-over lost anything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TakenBack {
    /// Jobs, and their keys.
    pub jobs: BTreeMap<JobId, String>,
    /// Attempts that had begun, whether they had ended or not.
    pub attempts: Vec<Attempt>,
    /// Ends of jobs.
    pub ends: Vec<Place>,
    /// Calls whose answers had been written.
    pub answers: BTreeSet<String>,
}

impl TakenBack {
    /// What `left` held and `went_on` does not.
    pub fn between(left: &Standing, went_on: &Standing) -> Self {
        let leases: BTreeSet<LeaseId> = went_on.attempts.iter().map(|attempt| attempt.lease_id).collect();
        let is_gone = |attempt: &&Attempt| !leases.contains(&attempt.lease_id);
        let ends = left.places.iter().filter(|place| place.state.is_terminal());
        let is_new = |(job, _): &(&JobId, &String)| !went_on.keys.contains_key(job);
        Self {
            jobs: left.keys.iter().filter(is_new).map(|(job, key)| (*job, key.clone())).collect(),
            attempts: left.attempts.iter().filter(is_gone).cloned().collect(),
            ends: ends.filter(|end| !went_on.places.contains(end)).cloned().collect(),
            answers: left.answers().difference(&went_on.answers()).cloned().collect(),
        }
    }

    /// Whether a lease is one of those.
    pub(super) fn has_lease(&self, lease: LeaseId) -> bool {
        self.attempts.iter().any(|attempt| attempt.lease_id == lease)
    }

    /// The attempts by the client's name for their jobs. `keys` has those of jobs that are still there.
    pub(super) fn attempts_by_key<'a>(
        &'a self,
        keys: &BTreeMap<JobId, &'a str>,
    ) -> BTreeMap<&'a str, Vec<&'a Attempt>> {
        let mut by_key: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
        for attempt in &self.attempts {
            let gone = self.jobs.get(&attempt.job_id).map(String::as_str);
            if let Some(key) = gone.or_else(|| keys.get(&attempt.job_id).copied()) {
                by_key.entry(key).or_default().push(attempt);
            }
        }
        by_key
    }
}
