//! Which pairs of the board can be leased from now, as far as limits and closed gates let them.

use std::borrow::Cow;

use sluice_domain::LaneId;
use sluice_policy::board::Pair;
use sluice_store::CooledGate;
use tokio::time::Instant;

use crate::{
    breakers::Gate,
    cooldowns::Standing,
    core::Core,
    lane_limits::{LaneLimits, Way},
};

/// The board, sorted.
#[derive(Debug, Default)]
pub(crate) struct Sorted<'a> {
    /// What can be leased from.
    pub(crate) open: Cow<'a, [Pair]>,
    /// When the first of the others may be open.
    pub(crate) opens_at: Option<Instant>,
    /// Only so many, all of which go through this gate: it has just been opened.
    pub(crate) paced: Option<(CooledGate, usize)>,
    /// Time is over for this gate: the database has to be asked.
    pub(crate) ask: Option<CooledGate>,
}

/// Whether a lane can be leased from now.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum LaneStanding {
    Open,
    /// A limit of it has no room, or a gate is closed; not before then.
    ClosedUntil(Instant),
    /// What is leased from it must be sent at once, and all slots are taken.
    NoSlot,
    /// So many, through this gate.
    Paced(CooledGate, usize),
    /// The database has to be asked for this gate.
    Ask(CooledGate),
}

/// Sorts the pairs of a board. Gates that have just been opened come first: what they let through is little.
pub(crate) fn sort<'a>(core: &Core, limits: &mut LaneLimits, pairs: &'a [Pair]) -> Sorted<'a> {
    if limits.are_none() && !core.cooldowns.has_any() {
        return Sorted { open: Cow::Borrowed(pairs), ..Sorted::default() };
    }
    let mut sorted = Sorted::default();
    let (mut open, mut paced) = (Vec::new(), Vec::new());
    for pair in pairs {
        match of_lane(core, limits, pair.lane_id) {
            LaneStanding::Open => open.push(pair.clone()),
            LaneStanding::NoSlot => {}
            LaneStanding::Ask(gate) => sorted.ask = Some(gate),
            LaneStanding::ClosedUntil(at) => {
                sorted.opens_at = Some(sorted.opens_at.map_or(at, |first| first.min(at)));
            }
            LaneStanding::Paced(gate, count) => {
                let (first, _) = sorted.paced.get_or_insert((gate.clone(), count));
                if *first == gate {
                    paced.push(pair.clone());
                }
            }
        }
    }
    sorted.open = Cow::Owned(if sorted.paced.is_some() { paced } else { open });
    sorted
}

/// How a lane stands, and which of its targets leases are for: the first that lets something through. What an earlier one
/// that has been closed lets through, or has to be asked for, comes first, so that work goes back to it.
pub(crate) fn of_lane(core: &Core, limits: &mut LaneLimits, lane: LaneId) -> LaneStanding {
    let now = Instant::now();
    let mut closed: Option<Instant> = None;
    for (index, way) in limits.ways(lane).iter().enumerate() {
        let is_shut = core.pauses.of(&way.upstream, &way.account, &way.model).is_some()
            || core.breakers.gate(&way.upstream) == Gate::Shut;
        if is_shut {
            continue;
        }
        match of_way(core, way, now) {
            LaneStanding::ClosedUntil(until) => closed = Some(closed.map_or(until, |first| first.min(until))),
            standing => {
                limits.choose(lane, index);
                return standing;
            }
        }
    }
    // Without any, the attempt has the last word: there is no route, or all were shut since the board was read.
    closed.map_or(LaneStanding::Open, LaneStanding::ClosedUntil)
}

fn of_way(core: &Core, way: &Way, now: Instant) -> LaneStanding {
    if let Some(until) = core.rooms.closed_until(&way.limits, now) {
        return LaneStanding::ClosedUntil(until);
    }
    match core.cooldowns.standing(&way.gates, now) {
        Standing::ClosedUntil(until) => LaneStanding::ClosedUntil(until),
        Standing::Ask(gate) => LaneStanding::Ask(gate),
        _ if !way.limits.is_empty() && core.slots.free() == 0 => LaneStanding::NoSlot,
        Standing::MayBegin(..) if core.slots.free() == 0 => LaneStanding::NoSlot,
        Standing::MayBegin(gate, count) => LaneStanding::Paced(gate, count),
        Standing::Open => LaneStanding::Open,
    }
}
