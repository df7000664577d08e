//! The ledger in memory: the newest calls, in order of arrival.

use std::collections::VecDeque;

use super::{CallArrival, CallEnd, CallRecord};

/// The calls of this run, the oldest of which are forgotten when there are too many.
#[derive(Debug)]
pub(crate) struct CallBook {
    records: VecDeque<CallRecord>,
    next_call: u64,
    max_kept: usize,
}

impl CallBook {
    /// A book whose first call has the number `first_call`.
    pub(crate) fn new(first_call: u64, max_kept: usize) -> Self {
        Self { records: VecDeque::new(), next_call: first_call, max_kept: max_kept.max(1) }
    }

    /// Numbers a call and keeps it. Gives the arrival with its number.
    pub(crate) fn arrive(&mut self, mut arrival: CallArrival) -> CallArrival {
        arrival.call = self.next_call;
        self.next_call += 1;
        if self.records.len() == self.max_kept {
            self.records.pop_front();
        }
        self.records.push_back(CallRecord { arrival: arrival.clone(), end: None });
        arrival
    }

    /// Writes down how a call ended, unless it has been forgotten.
    pub(crate) fn end(&mut self, end: CallEnd) {
        let Some(first) = self.records.front().map(|record| record.arrival.call) else { return };
        let at = end.call.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        if let Some(record) = at.and_then(|at| self.records.get_mut(at)) {
            record.end = Some(end);
        }
    }

    /// The kept calls after number `after`, oldest first.
    pub(crate) fn since(&self, after: u64) -> Vec<CallRecord> {
        self.records.iter().filter(|record| record.arrival.call > after).cloned().collect()
    }
}
