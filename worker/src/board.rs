//! The board as this worker sees it: which pairs it may lease from, which are blocked and by what, and when the next
//! job is due. A pair is blocked when every target of its route is. Not here: the order and share of what is leased (`policy::board`).

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use sluice_domain::LaneId;
use sluice_policy::board::Pair;
use sluice_store::BoardEntry;
use tokio::time::Instant;

use crate::{
    core::Core,
    routing::{Lookup, Routing},
    targets::{Way, way},
};

/// Work that an upstream's failing holds up is looked at again after so long, if no bell rings before.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Work that waits, since none of the places where its model leads can be called.
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
    /// The model is paused at the upstream: calls of it were forbidden there, one after the other.
    ModelPaused {
        /// The upstream.
        upstream: String,
        /// The model, by its name there.
        model: String,
    },
    /// The upstream fails. It is called again by itself when it works again.
    UpstreamFailing(String),
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
    /// The pauses and breakers that it was sorted by.
    pub(crate) gates_seen: u64,
    /// Lanes of which one job may be leased: it tries whether an upstream works again.
    pub(crate) on_trial: HashSet<LaneId>,
}

impl Board {
    /// Sorts what a look that began at `read_at` showed.
    pub(crate) fn sorted(entries: Vec<BoardEntry>, core: &Core, read_at: Instant, gates_seen: u64) -> Self {
        let routing = core.routing.load();
        let mut board = Self {
            pairs: Vec::new(),
            due_at: None,
            blocked: BTreeSet::new(),
            read_at,
            gates_seen,
            on_trial: HashSet::new(),
        };
        let mut due_in: Option<Duration> = None;
        for entry in entries {
            let way = way_of(&entry, &routing, core);
            if way == Way::OnTrial {
                board.on_trial.insert(entry.lane_id);
            }
            if let Way::Blocked(by) = way {
                // It is looked at again by itself, and so there is something left to do.
                if matches!(by, BlockedBy::UpstreamFailing(_)) {
                    due_in = Some(due_in.map_or(LOOK_AGAIN, |first| first.min(LOOK_AGAIN)));
                }
                board.blocked.insert(Blocked { model: entry.model.to_string(), by });
            } else if let Some(age) = entry.age {
                board.pairs.push(Pair {
                    lane_id: entry.lane_id,
                    tenant_weight: routing.tenant_weight(&entry.tenant),
                    tenant: entry.tenant,
                    priority: entry.priority,
                    age_ms: age.as_millis().try_into().unwrap_or(u64::MAX),
                    weight: routing.queue_weight(entry.queue.as_str()),
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
fn way_of(entry: &BoardEntry, routing: &Routing, core: &Core) -> Way {
    match routing.lookup(&entry.model) {
        Lookup::Places(places) => way(&places, &core.pauses, &core.breakers),
        Lookup::NoRoute => Way::Free,
        Lookup::NotConfigured => Way::Blocked(BlockedBy::NotConfigured),
    }
}
