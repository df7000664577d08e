//! The board as this worker sees it: which pairs it may lease from, which are blocked and by what, and when the next
//! job is due. Not here: the order and share of what is leased (`policy::board`).

use std::{collections::BTreeSet, time::Duration};

use sluice_policy::board::Pair;
use sluice_store::{BoardEntry, PausedKind};
use tokio::time::Instant;

use crate::{
    pauses::Pauses,
    routing::{Lookup, Routing},
};

/// Work that waits for a person, since where its model leads can't be called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Blocked {
    /// The model that the jobs ask for.
    pub model: String,
    /// What is in the way.
    pub by: BlockedBy,
}

/// What keeps jobs from being called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BlockedBy {
    /// The upstream is paused: by a person, or because its key was refused.
    UpstreamPaused(String),
    /// The account is paused: by a person, or because its money or quota is used up.
    AccountPaused(String),
    /// The upstream can't be called: its secret is missing, or something of it is not supported.
    UpstreamUnusable {
        /// The upstream.
        upstream: String,
        /// Why, in words for a person.
        reason: String,
    },
    /// No configuration was applied yet.
    NotConfigured,
}

/// What one look at the board showed.
#[derive(Debug)]
pub(crate) struct Board {
    /// Pairs with jobs that can run now.
    pub(crate) pairs: Vec<Pair>,
    /// When the first job can run of the pairs where none can now.
    pub(crate) due_at: Option<Instant>,
    /// What is in the way of the rest.
    pub(crate) blocked: BTreeSet<Blocked>,
    /// When the look began.
    pub(crate) read_at: Instant,
    /// The pauses that it was sorted by.
    pub(crate) pauses_seen: u64,
}

impl Board {
    /// Sorts what a look that began at `read_at` showed.
    pub(crate) fn sorted(
        entries: Vec<BoardEntry>,
        routing: &Routing,
        pauses: &Pauses,
        read_at: Instant,
    ) -> Self {
        let mut board = Self {
            pairs: Vec::new(),
            due_at: None,
            blocked: BTreeSet::new(),
            read_at,
            pauses_seen: pauses.changes(),
        };
        let mut due_in: Option<Duration> = None;
        for entry in entries {
            if let Some(by) = in_the_way(&entry, routing, pauses) {
                board.blocked.insert(Blocked { model: entry.model.to_string(), by });
            } else if let Some(age) = entry.age {
                board.pairs.push(Pair {
                    lane_id: entry.lane_id,
                    tenant: entry.tenant,
                    priority: entry.priority,
                    age_ms: age.as_millis().try_into().unwrap_or(u64::MAX),
                });
            } else if let Some(wait) = entry.due_in {
                due_in = Some(due_in.map_or(wait, |first| first.min(wait)));
            }
        }
        board.due_at = due_in.and_then(|wait| read_at.checked_add(wait));
        board
    }
}

/// A model without a route is in nobody's way: its jobs are leased and fail, in words that name it.
fn in_the_way(entry: &BoardEntry, routing: &Routing, pauses: &Pauses) -> Option<BlockedBy> {
    match routing.lookup(&entry.model) {
        Lookup::Target(target) => match pauses.of(&target.upstream.name, &target.upstream.account)? {
            (PausedKind::Upstream, name) => Some(BlockedBy::UpstreamPaused(name)),
            (PausedKind::Account, name) => Some(BlockedBy::AccountPaused(name)),
        },
        Lookup::Unusable { upstream, reason } => Some(BlockedBy::UpstreamUnusable { upstream, reason }),
        Lookup::NoRoute => None,
        Lookup::NotConfigured => Some(BlockedBy::NotConfigured),
    }
}
