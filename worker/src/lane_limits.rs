//! Which limits the jobs of each lane take of, which gates their calls go through, and which limits have no room now.
//!
//! Limits are taken in the database with the lease. What is known here only saves statements: lanes whose limits have
//! no room are left out of the plan until there may be some, so that they neither stand in front of others nor are asked
//! for again and again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_domain::{DeclaredLimit, LaneId, LimitId, LimitKind};
use sluice_policy::aimd::Bounds;
use sluice_store::{BoardEntry, CooledGate, NoRoom, StoreError};
use tokio::time::Instant;

use crate::{adaptive::Adaptive, cooldowns::gates_of, core::Core, incarnation::bounded, routing::Routing};

/// What is not under way so long after its allowance was taken goes back: the windows are kept with a margin from lease to
/// arrival, which the way to the upstream needs a part of.
pub(crate) const MOST_UNTIL_SENT: Duration = Duration::from_millis(250);
/// Lanes come and go; beyond so many all are learned anew.
const MOST_LANES: usize = 10_000;
/// When a limit is asked for again that has no room until something comes back, first and at most.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// The limits of lanes, by the configuration that the worker knows.
#[derive(Debug, Default)]
pub(crate) struct LaneLimits {
    by_lane: HashMap<LaneId, Ways>,
    none: Way,
    declared: HashMap<LimitId, DeclaredLimit>,
    /// Those that are in the database for certain.
    written: HashSet<LimitId>,
}

/// The targets of a lane's jobs, in the order in which they are taken, and the one that leases are for now.
#[derive(Debug, Default)]
struct Ways {
    all: Arc<[Way]>,
    chosen: usize,
}

/// What the jobs of a lane need on their way to one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    pub(crate) upstream: String,
    pub(crate) account: String,
    /// The model, by its name there.
    pub(crate) model: String,
    /// In order; none where it has none.
    pub(crate) limits: Arc<[LimitId]>,
    pub(crate) gates: Arc<[CooledGate]>,
}

impl LaneLimits {
    /// Takes note of the lanes of a board, and of limits of theirs that are found out by trying.
    pub(crate) fn learn(&mut self, entries: &[BoardEntry], routing: &Routing, adaptive: &Adaptive) {
        if self.by_lane.len() > MOST_LANES {
            self.by_lane.clear();
        }
        for entry in entries.iter().filter(|entry| entry.age.is_some()) {
            if self.by_lane.contains_key(&entry.lane_id) {
                continue;
            }
            let mut all = Vec::new();
            for (upstream, there) in routing.targets(&entry.model) {
                let account = &upstream.account;
                let limits = routing.limits_at(&entry.tenant, &entry.queue, account, &there);
                let gates = gates_of(upstream.name.as_str(), account, &there).into();
                let (upstream, account) = (upstream.name.to_string(), account.clone());
                all.push(Way { upstream, account, model: there.to_string(), limits: ids_of(&limits), gates });
                for (limit, floor) in limits.iter().filter_map(|limit| Some((limit, limit.floor?))) {
                    let bounds = Bounds { floor, ceiling: limit.cap };
                    adaptive.learn(limit.id(), bounds, Instant::now());
                }
                self.declared.extend(limits.into_iter().map(|limit| (limit.id(), limit)));
            }
            self.by_lane.insert(entry.lane_id, Ways { all: all.into(), chosen: 0 });
        }
    }

    /// All ways of a lane's jobs, in order; none where its model has no route.
    pub(crate) fn ways(&self, lane: LaneId) -> Arc<[Way]> {
        self.by_lane.get(&lane).map(|ways| Arc::clone(&ways.all)).unwrap_or_default()
    }

    /// Leases of this lane are for this one of its ways from now on.
    pub(crate) fn choose(&mut self, lane: LaneId, way: usize) {
        if let Some(ways) = self.by_lane.get_mut(&lane) {
            ways.chosen = way;
        }
    }

    /// What a lane's jobs need on the way that leases are for.
    pub(crate) fn of(&self, lane: LaneId) -> &Way {
        self.by_lane.get(&lane).and_then(|ways| ways.all.get(ways.chosen)).unwrap_or(&self.none)
    }

    /// Whether no lane has a limit.
    pub(crate) fn are_none(&self) -> bool {
        self.declared.is_empty()
    }

    /// Writes down what was declared and may not be in the database yet: a queue's limit for a tenant that nobody has met
    /// before, or those of a configuration that was never applied.
    pub(crate) async fn write_down(&mut self, core: &Core) -> Result<(), StoreError> {
        let missing: Vec<DeclaredLimit> = self
            .declared
            .iter()
            .filter(|(id, _)| !self.written.contains(id))
            .map(|(_, limit)| limit.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let version = core.routing.load().version;
        match version {
            0 => bounded(core.store.limits_declare(&missing)).await?,
            _ => bounded(core.store.limits_ensure_if_newest(version, &missing)).await?,
        }
        self.written.extend(missing.iter().map(DeclaredLimit::id));
        Ok(())
    }

    /// The database says that nobody has declared these.
    pub(crate) fn are_unknown(&mut self, limits: &[LimitId]) {
        for limit in limits {
            self.written.remove(limit);
        }
    }

    /// A limit, in words.
    pub(crate) fn text(&self, limit: LimitId) -> String {
        self.declared.get(&limit).map_or_else(|| "a limit".to_owned(), ToString::to_string)
    }
}

/// The ids of limits, in order.
pub(crate) fn ids_of(limits: &[DeclaredLimit]) -> Arc<[LimitId]> {
    let mut ids: Vec<_> = limits.iter().map(DeclaredLimit::id).collect();
    ids.sort_unstable();
    ids.into()
}

/// Limits that have no room, as far as this worker was told.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    closed: Mutex<HashMap<LimitId, Closed>>,
    /// Those of which calls are refused, until it is written down what that means; what comes back changes nothing then.
    resting: Mutex<HashMap<LimitId, Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    until: Instant,
    /// Looks in a row that found none.
    misses: u32,
}

impl Rooms {
    /// Takes note of what a lease of `named` limits said, which brought so many jobs: if any, it was no miss.
    pub(crate) fn told(&self, named: &[LimitId], no_room: &[NoRoom], leased: usize, now: Instant) {
        let mut closed = self.lock();
        for limit in named {
            if !no_room.iter().any(|word| word.limit == *limit) {
                closed.remove(limit);
            }
        }
        for word in no_room {
            let misses = closed.get(&word.limit).map_or(0, |known| known.misses);
            let misses = if leased > 0 { 0 } else { misses.saturating_add(1) };
            let patience = (FIRST_LOOK * 2_u32.pow(misses.min(5))).min(LAST_LOOK);
            // Where it is known when a window has room, that is what is waited for: a little more, so that it is there.
            let wait = word.room_in.map_or(patience, |wait| wait.min(LAST_LOOK) + Duration::from_millis(2));
            closed.insert(word.limit, Closed { until: now + wait, misses });
        }
    }

    /// The caller's configuration is another one than the database's; it hears of that by a beat.
    pub(crate) fn close(&self, limits: &[LimitId], until: Instant) {
        let mut closed = self.lock();
        closed.extend(limits.iter().map(|limit| (*limit, Closed { until, misses: 0 })));
    }

    /// Until when none of these may have room for one more; `None`: all may have it.
    pub(crate) fn closed_until(&self, limits: &[LimitId], now: Instant) -> Option<Instant> {
        if limits.is_empty() {
            return None;
        }
        let resting = self.resting();
        let closed = self.lock();
        limits
            .iter()
            .flat_map(|limit| {
                [closed.get(limit).map(|known| known.until), resting.get(limit).copied()]
                    .into_iter()
                    .flatten()
            })
            .filter(|at| *at > now)
            .max()
    }

    /// Nothing is leased of these until then, or until they are rested.
    pub(crate) fn rest(&self, limits: &[LimitId], until: Instant) {
        if !limits.is_empty() {
            self.resting().extend(limits.iter().map(|limit| (*limit, until)));
        }
    }

    /// It has rested.
    pub(crate) fn rested(&self, limit: LimitId) {
        self.resting().remove(&limit);
    }

    fn resting(&self) -> MutexGuard<'_, HashMap<LimitId, Instant>> {
        // Nothing that holds the lock can panic half way through a change.
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of these has come back. Says whether one of them was thought to have no room.
    pub(crate) fn freed(&self, limits: &[LimitId]) -> bool {
        let mut closed = self.lock();
        let mut is_news = false;
        // A request that was made is not given back by its answer.
        for limit in limits.iter().filter(|limit| limit.kind() != LimitKind::Requests) {
            is_news |= closed.remove(limit).is_some();
        }
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LimitId, Closed>> {
        // Nothing that holds the lock can panic half way through a change.
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: LimitId = LimitId(4);
    const REQUESTS: LimitId = LimitId(9);

    #[test]
    fn a_full_limit_is_asked_for_less_and_less_until_something_comes_back() {
        let rooms = Rooms::default();
        let now = Instant::now();
        let full = [NoRoom { limit: SLOTS, room_in: None }];
        rooms.told(&[SLOTS], &full, 0, now);
        let first = rooms.closed_until(&[SLOTS], now).unwrap();
        for _ in 0..10 {
            rooms.told(&[SLOTS], &full, 0, now);
        }
        let last = rooms.closed_until(&[SLOTS], now).unwrap();
        assert!(first < last && last <= now + LAST_LOOK);
        assert!(rooms.freed(&[SLOTS]));
        assert!(!rooms.freed(&[SLOTS]), "known already");
        assert_eq!(rooms.closed_until(&[SLOTS], now), None);
    }

    #[test]
    fn a_window_is_waited_for_and_no_answer_opens_it() {
        let rooms = Rooms::default();
        let now = Instant::now();
        let full = [NoRoom { limit: REQUESTS, room_in: Some(Duration::from_millis(100)) }];
        rooms.told(&[SLOTS, REQUESTS], &full, 1, now);
        assert!(!rooms.freed(&[REQUESTS]));
        let until = rooms.closed_until(&[SLOTS, REQUESTS], now).unwrap();
        assert!(until >= now + Duration::from_millis(100) && until < now + Duration::from_millis(200));
        assert_eq!(rooms.closed_until(&[SLOTS, REQUESTS], until), None);
        rooms.told(&[REQUESTS], &[], 1, now);
        assert_eq!(rooms.closed_until(&[REQUESTS], now), None);
    }
}
