//! What is written in one statement, and where it is kept until then: in memory, in the spool, or both.

use std::io;

use sluice_domain::{LeaseId, Settlement};
use tracing::Span;

use super::{Unsettled, answer_bytes};
use crate::{core::Core, spool::Place};

/// The most settlements of a group.
pub(super) const MAX_GROUP: usize = 200;
/// The most bytes of answers in a group; one answer alone may be larger.
pub(super) const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Whose attempts they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Origin {
    /// Our own.
    #[default]
    Own,
    /// A dead worker's, whose spool we took over.
    Adopted,
}

/// Settlements that go together. Of the lists, those that don't apply are empty; the others are of the same length.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) origin: Origin,
    /// Where they are in memory; with `is_counted` for as long as they wait.
    pub(super) settlements: Vec<Settlement>,
    /// Whether [`super::Settler`] counts them.
    pub(super) is_counted: bool,
    pub(super) spans: Vec<Span>,
    /// Where they lie in the spool.
    pub(super) places: Vec<Place>,
    /// Whether the database refused it by itself.
    pub(super) was_refused: bool,
    /// Of settlements of ours that are in the spool alone.
    leases: Vec<LeaseId>,
    bytes: usize,
}

impl Group {
    /// Records of a spool that was taken over.
    pub(super) fn adopted(places: Vec<Place>) -> Self {
        Self { origin: Origin::Adopted, places, ..Self::default() }
    }

    pub(super) fn push(&mut self, unsettled: Unsettled) {
        self.is_counted = true;
        self.bytes += answer_bytes(&unsettled.settlement);
        self.settlements.push(unsettled.settlement);
        self.spans.push(unsettled.span);
    }

    pub(super) fn is_full(&self) -> bool {
        self.settlements.len() >= MAX_GROUP || self.bytes >= MAX_GROUP_BYTES
    }

    pub(super) fn len(&self) -> usize {
        self.settlements.len().max(self.places.len())
    }

    pub(super) fn is_in_spool(&self) -> bool {
        !self.places.is_empty()
    }

    /// The second half; of a single settlement nothing.
    pub(super) fn split(&mut self) -> Option<Self> {
        let middle = self.len().div_ceil(2);
        (middle < self.len()).then(|| Self {
            origin: self.origin,
            is_counted: self.is_counted,
            was_refused: false,
            settlements: split_off(&mut self.settlements, middle),
            spans: split_off(&mut self.spans, middle),
            places: split_off(&mut self.places, middle),
            leases: split_off(&mut self.leases, middle),
            bytes: 0,
        })
    }

    /// Makes it safe, where that is not so and the disk allows it.
    pub(super) async fn bring_to_spool(&mut self, core: &Core) {
        if !self.is_in_spool() && !self.settlements.is_empty() {
            self.places = core.spool.keep(&self.settlements).await.unwrap_or_default();
        }
    }

    /// Makes room in memory, if that gets scarce and the disk has it all.
    pub(super) fn leave_memory_if_scarce(&mut self, core: &Core) {
        if self.is_counted && self.is_in_spool() && core.settler.is_half_full() {
            core.settler.left_memory(&self.settlements);
            self.is_counted = false;
            self.spans.clear();
            self.leases = self.settlements.iter().map(|settlement| settlement.lease_id).collect();
        }
        if !self.is_counted {
            self.settlements = Vec::new();
        }
    }

    /// Reads what is in the spool alone. A record that can't be read is left where it is. Says whether the group can be
    /// tried: not while the disk hangs.
    pub(super) async fn load(&mut self, core: &Core) -> bool {
        if !self.settlements.is_empty() {
            return true;
        }
        let Some(read) = core.spool.load(self.places.clone()).await else { return false };
        self.places.clear();
        let leases = std::mem::take(&mut self.leases);
        for (index, (loaded, place)) in read.into_iter().enumerate() {
            let lease = leases.get(index).copied();
            match loaded {
                Ok(settlement) => {
                    self.settlements.push(settlement);
                    self.places.push(place);
                    self.leases.extend(lease);
                }
                Err(error) => unreadable(core, &error, lease),
            }
        }
        true
    }
}

/// Nothing more can be done about it here, and nobody should wait for it.
fn unreadable(core: &Core, error: &io::Error, lease: Option<LeaseId>) {
    tracing::error!(%error, lease.id = ?lease, "an outcome in the spool can't be read any more; it stays where it is");
    core.metrics.spool_adopted(0, 1);
    if let Some(lease) = lease {
        core.held.remove(lease);
    }
}

fn split_off<T>(list: &mut Vec<T>, middle: usize) -> Vec<T> {
    if list.is_empty() { Vec::new() } else { list.split_off(middle) }
}
