//! Which leases a call was begun under, lately.
//!
//! An asynchronous fail-over can take back a settle whose acknowledgement the worker had. The lease then runs again in the
//! database, under an incarnation that lives and does not hold it: a stray. What tells it from a lease whose answer never
//! arrived is this memory: its call was made and perhaps paid, so it must not go back as not sent.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use sluice_domain::LeaseId;

/// So many are remembered: more than a standby lags behind, and a few megabytes.
const MOST: usize = 65_536;

/// The last leases that a call was begun under.
#[derive(Debug, Default)]
pub(crate) struct Called {
    leases: Mutex<(HashSet<LeaseId>, VecDeque<LeaseId>)>,
}

impl Called {
    /// A call begins under this lease.
    pub(crate) fn note(&self, lease: LeaseId) {
        let (known, order) = &mut *self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(lease) {
            order.push_back(lease);
        }
        while order.len() > MOST {
            if let Some(oldest) = order.pop_front() {
                known.remove(&oldest);
            }
        }
    }

    /// Whether a call was begun under it, as far as is remembered.
    pub(crate) fn knows(&self, lease: LeaseId) -> bool {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).0.contains(&lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let called = Called::default();
        let leases: Vec<LeaseId> = (0..MOST + 2).map(|_| LeaseId::generate()).collect();
        for lease in &leases {
            called.note(*lease);
            called.note(*lease);
        }
        assert!(!called.knows(leases[0]) && !called.knows(leases[1]));
        assert!(called.knows(leases[2]) && called.knows(leases[MOST + 1]));
    }
}
