//! Floors: from which key on a lease has to look for queued jobs.
//!
//! Rows of `ready` stand in the order of their keys and leave from the front. What left lies dead until it is cleaned
//! up, and while any old snapshot is held it can't be: a scan from the beginning would walk over all of it, for each
//! lease. So whoever leases remembers, for each line of a (lane, priority) pair, a floor: a key below which no queued
//! row is, nor can appear.
//!
//! A floor must never pass a row that is not visible yet. No row enters a line with a key earlier than the clock read
//! after its transaction had an id. So:
//!
//! - the *candidate* is the lowest key that a look shows, at most the clock read before that look;
//! - whoever enters below the candidate without being seen had its transaction's id before the look ended;
//! - once a later look finds all of those transactions ended, its own lowest key has seen them: the floor rises to the
//!   lower of the two.
//!
//! Transactions that only read have no id and hold nothing back. Where the clock is seen to go backwards, or the
//! connection was lost (another server may answer now), all floors are forgotten; and now and then a look without
//! floors is compared with them, as the net under all this.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sluice_domain::{LaneId, LookBounds, LowestKeys, PairFloors, Priority};

/// Pairs that are remembered; those beyond are looked up from the beginning.
const MOST_PAIRS: usize = 4_096;
/// A pair that had nothing for so many looks is forgotten: lanes come and go, and each pair that is known costs every
/// look. While leases flow that is half a minute at the least, on an idle system half an hour.
const MOST_EMPTY_LOOKS: u32 = 1_000;

/// The floors that one worker keeps.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    pairs: BTreeMap<(LaneId, Priority), Pair>,
    latest_read: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Of the jobs that came back or were scheduled, and of the fresh ones.
    lines: [Line; 2],
    /// Looks in a row that showed nothing.
    empty_looks: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    floor: Option<DateTime<Utc>>,
    candidate: Option<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    key: DateTime<Utc>,
    /// Transactions with a lower id may have been under way when it was read.
    next_xid: u64,
}

impl Floors {
    /// The floors of a pair.
    pub fn of(&self, lane: LaneId, priority: Priority) -> PairFloors {
        self.pairs.get(&(lane, priority)).map(Pair::floors).unwrap_or_default()
    }

    /// All pairs that are remembered, by lane and priority.
    pub fn pairs(&self) -> impl Iterator<Item = (LaneId, Priority, PairFloors)> + '_ {
        self.pairs.iter().map(|((lane, priority), pair)| (*lane, *priority, pair.floors()))
    }

    /// Takes note of what a look above these floors showed of the pairs it lists; without bounds, where nothing waits,
    /// that they were empty.
    pub fn observe(
        &mut self,
        bounds: Option<LookBounds>,
        pairs: impl IntoIterator<Item = (LaneId, Priority, LowestKeys)>,
    ) {
        if let Some(bounds) = bounds {
            if self.latest_read.is_some_and(|latest| bounds.read_at < latest) {
                self.forget_all();
            }
            self.latest_read = Some(bounds.read_at);
        }
        for (lane, priority, lowest) in pairs {
            self.observe_pair(lane, priority, lowest, bounds);
        }
    }

    fn observe_pair(
        &mut self,
        lane: LaneId,
        priority: Priority,
        lowest: LowestKeys,
        bounds: Option<LookBounds>,
    ) {
        if self.pairs.len() >= MOST_PAIRS && !self.pairs.contains_key(&(lane, priority)) {
            return;
        }
        let pair = self.pairs.entry((lane, priority)).or_default();
        let is_empty = lowest == LowestKeys::default();
        pair.empty_looks = if is_empty { pair.empty_looks + 1 } else { 0 };
        if pair.empty_looks > MOST_EMPTY_LOOKS {
            self.pairs.remove(&(lane, priority));
        } else if let Some(bounds) = bounds {
            pair.lines[0].observe(lowest.returned, bounds);
            pair.lines[1].observe(lowest.fresh, bounds);
        }
    }

    /// Compares what a look from the beginning showed with `then`, the floors as they were before it: a line that had a
    /// row below its floor loses it. Says how many did; that is a fault of whoever wrote the row. Not compared with the
    /// floors of now: those may have passed what was leased since the look.
    pub fn check(
        &mut self,
        then: &Self,
        pairs: impl IntoIterator<Item = (LaneId, Priority, LowestKeys)>,
    ) -> usize {
        let mut lowered = 0;
        for (lane, priority, lowest) in pairs {
            let floors = then.of(lane, priority);
            let seen = [(floors.returned, lowest.returned), (floors.fresh, lowest.fresh)];
            for (at, (floor, key)) in seen.into_iter().enumerate() {
                if floor.zip(key).is_some_and(|(floor, key)| key < floor) {
                    lowered += 1;
                    if let Some(pair) = self.pairs.get_mut(&(lane, priority)) {
                        pair.lines[at] = Line::default();
                    }
                }
            }
        }
        lowered
    }

    /// Forgets everything: what comes next looks from the beginning.
    pub fn forget_all(&mut self) {
        self.pairs.clear();
        self.latest_read = None;
    }
}

impl Pair {
    fn floors(&self) -> PairFloors {
        PairFloors { returned: self.lines[0].floor, fresh: self.lines[1].floor }
    }
}

impl Line {
    fn observe(&mut self, lowest: Option<DateTime<Utc>>, bounds: LookBounds) {
        let lowest = lowest.map_or(bounds.read_at, |key| key.min(bounds.read_at));
        if let Some(candidate) = self.candidate {
            if bounds.oldest_xid < candidate.next_xid {
                return;
            }
            self.floor = Some(candidate.key.min(lowest));
        }
        self.candidate = Some(Candidate { key: lowest, next_xid: bounds.next_xid });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const LANE: LaneId = LaneId(7);

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(ms).unwrap()
    }

    fn normal() -> Priority {
        Priority::new(3).unwrap()
    }

    fn look(floors: &mut Floors, read_at: i64, oldest_xid: u64, next_xid: u64, fresh: Option<i64>) {
        let bounds = LookBounds { read_at: at(read_at), oldest_xid, next_xid };
        let lowest = LowestKeys { returned: None, fresh: fresh.map(at) };
        floors.observe(Some(bounds), [(LANE, normal(), lowest)]);
    }

    #[test]
    fn a_floor_rises_once_all_that_ran_at_the_first_look_has_ended() {
        let mut floors = Floors::default();
        look(&mut floors, 100, 5, 9, Some(40));
        assert_eq!(floors.of(LANE, normal()).fresh, None);
        look(&mut floors, 110, 8, 12, Some(60));
        assert_eq!(floors.of(LANE, normal()).fresh, None, "transaction 8 may still bring a lower key");
        look(&mut floors, 120, 9, 13, Some(70));
        assert_eq!(floors.of(LANE, normal()).fresh, Some(at(40)));
        assert_eq!(floors.of(LANE, normal()).returned, Some(at(100)), "an empty line: the time of the look");
    }

    #[test]
    fn what_a_slow_transaction_brought_keeps_the_floor_down() {
        let mut floors = Floors::default();
        look(&mut floors, 100, 5, 9, Some(90));
        look(&mut floors, 200, 9, 10, Some(30));
        assert_eq!(floors.of(LANE, normal()).fresh, Some(at(30)));
    }

    #[test]
    fn a_job_for_tomorrow_drags_no_floor_past_now() {
        let mut floors = Floors::default();
        look(&mut floors, 100, 5, 9, Some(86_400_000));
        look(&mut floors, 200, 9, 10, Some(86_400_000));
        assert_eq!(floors.of(LANE, normal()).fresh, Some(at(100)));
    }

    #[test]
    fn a_clock_that_goes_back_takes_all_floors_with_it() {
        let mut floors = Floors::default();
        look(&mut floors, 100, 5, 9, None);
        look(&mut floors, 110, 9, 10, None);
        assert_eq!(floors.of(LANE, normal()).fresh, Some(at(100)));
        look(&mut floors, 90, 11, 12, None);
        assert_eq!(floors.of(LANE, normal()).fresh, None);
    }

    #[test]
    fn a_look_from_the_beginning_lowers_a_floor_that_had_passed_a_row() {
        let mut floors = Floors::default();
        look(&mut floors, 100, 5, 9, None);
        look(&mut floors, 110, 9, 10, None);
        let lowest = LowestKeys { returned: None, fresh: Some(at(99)) };
        let then = floors.clone();
        assert_eq!(floors.check(&then, [(LANE, normal(), lowest)]), 1);
        assert_eq!(floors.of(LANE, normal()), PairFloors { returned: Some(at(100)), fresh: None });
    }

    #[test]
    fn a_row_that_was_leased_since_the_look_from_the_beginning_lowers_nothing() {
        let mut floors = Floors::default();
        look(&mut floors, 100, 5, 9, Some(50));
        look(&mut floors, 110, 9, 10, Some(50));
        let then = floors.clone();
        look(&mut floors, 120, 10, 11, Some(90));
        look(&mut floors, 130, 11, 12, Some(90));
        assert_eq!(floors.of(LANE, normal()).fresh, Some(at(90)));
        let lowest = LowestKeys { returned: None, fresh: Some(at(60)) };
        assert_eq!(floors.check(&then, [(LANE, normal(), lowest)]), 0);
        assert_eq!(floors.of(LANE, normal()).fresh, Some(at(90)));
    }

    #[test]
    fn a_pair_that_stays_empty_is_forgotten_and_one_with_work_is_not() {
        let mut floors = Floors::default();
        let busy = Priority::new(5).unwrap();
        for look in 0..=i64::from(MOST_EMPTY_LOOKS) {
            let bounds = LookBounds { read_at: at(look), oldest_xid: look as u64, next_xid: look as u64 };
            let work = LowestKeys { returned: None, fresh: Some(at(look)) };
            floors.observe(Some(bounds), [(LANE, normal(), LowestKeys::default()), (LANE, busy, work)]);
        }
        let known: Vec<_> = floors.pairs().map(|(_, priority, _)| priority).collect();
        assert_eq!(known, [busy]);
    }

    /// What happens in the database, one step at a time.
    #[derive(Clone, Debug)]
    enum Step {
        /// A transaction gets its id, and then reads the clock.
        Begin,
        /// The oldest or the newest open transaction commits its row.
        Commit { oldest: bool },
        /// The row with the lowest key is leased: deleted by a transaction that commits at once.
        Lease,
        /// The worker looks.
        Look,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            3 => any::<bool>().prop_map(|oldest| Step::Commit { oldest }),
            2 => Just(Step::Lease),
            4 => Just(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn no_floor_ever_passes_a_row(steps in prop::collection::vec(step(), 1..200)) {
            let (mut clock, mut next_xid) = (0_i64, 1_u64);
            let mut open: BTreeMap<u64, i64> = BTreeMap::new();
            let mut visible: BTreeSet<i64> = BTreeSet::new();
            let mut floors = Floors::default();
            for step in steps {
                clock += 1;
                match step {
                    Step::Begin => {
                        open.insert(next_xid, clock);
                        next_xid += 1;
                    }
                    Step::Commit { oldest } => {
                        let done = if oldest { open.pop_first() } else { open.pop_last() };
                        visible.extend(done.map(|(_, key)| key));
                    }
                    Step::Lease => {
                        visible.pop_first();
                        next_xid += 1;
                    }
                    Step::Look => {
                        let oldest = open.keys().next().copied().unwrap_or(next_xid);
                        let floor = floors.of(LANE, normal()).fresh.unwrap_or(at(i64::MIN / 10_000));
                        let lowest = visible.iter().copied().find(|key| at(*key) >= floor);
                        look(&mut floors, clock, oldest, next_xid, lowest);
                    }
                }
                if let Some(floor) = floors.of(LANE, normal()).fresh {
                    let lowest = visible.iter().chain(open.values()).min().copied();
                    prop_assert!(lowest.is_none_or(|key| at(key) >= floor), "floor {floor}, row {lowest:?}");
                }
            }
        }
    }
}
