//! Which lanes a lease names, in which order and how much of each.
//!
//! The board lists (lane, priority) pairs that have work; the plan is a list of grants that the lease statement walks
//! in order, taking from each what is there up to its limit and up to the capacity in all. The rules:
//!
//! - tenants share the capacity by their weights, whatever priorities they give;
//! - within a tenant the higher priority goes first, strictly; pairs of one priority share by the weights of their queues;
//! - the pair that was longest unserved gets one grant in twenty, so that the lowest priority is not starved;
//! - what a pair or a tenant leaves over goes to the others in the same order.
//!
//! How deep a pair is isn't known (counting ten million rows for that would cost more than the lease), so a plan names
//! each pair twice: first with its share, then with all that is left.
//!
//! A share of a small capacity is no whole number of jobs, and leases of one job are the rule where slots are few. So the
//! planner keeps a *turn* for each tenant and lane, which advances with each job by one over the weight, and whoever's
//! turn is earliest goes first. Who comes back after a rest begins with the earliest of the others: rest earns nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use sluice_domain::{LaneId, Priority, TenantName};

/// One in so many grants goes to the pair that was longest unserved.
const FAVOUR_EVERY: u32 = 20;

/// A (lane, priority) pair with work that can run now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The lane.
    pub lane_id: LaneId,
    /// Whose it is.
    pub tenant: TenantName,
    /// The priority.
    pub priority: Priority,
    /// How long its oldest job could have run, in milliseconds.
    pub age_ms: u64,
    /// The weight of its queue, at least 1.
    pub weight: u16,
    /// The weight of its tenant, at least 1.
    pub tenant_weight: u16,
}

/// What a lease may take from a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedGrant {
    /// The lane.
    pub lane_id: LaneId,
    /// The priority.
    pub priority: Priority,
    /// So many jobs at most.
    pub limit: u32,
}

/// Plans leases, remembering which pairs were served when.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    /// When each pair was last served, in grants.
    served_at: HashMap<(LaneId, Priority), u64>,
    /// Grants so far.
    granted: u64,
    /// Grants since the longest unserved pair was last favoured.
    since_favour: u32,
    tenant_turns: Turns<TenantName>,
    lane_turns: Turns<LaneId>,
    /// The tenants and weights of the lanes that were planned lately.
    lanes: HashMap<LaneId, LaneWeights>,
    planned_pairs: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct LaneWeights {
    tenant: TenantName,
    of_lane: u16,
    of_tenant: u16,
}

impl LaneWeights {
    fn of(pair: &Pair) -> Self {
        Self { tenant: pair.tenant.clone(), of_lane: pair.weight, of_tenant: pair.tenant_weight }
    }
}

/// Whose turn it is: the earliest goes first.
#[derive(Clone, Debug)]
struct Turns<K> {
    turns: HashMap<K, f64>,
    earliest: f64,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { turns: HashMap::new(), earliest: 0.0 }
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// These have work. The others' turns are forgotten: they begin anew with the earliest of these.
    fn begin(&mut self, present: &HashSet<K>) {
        self.turns.retain(|key, _| present.contains(key));
        let known = self.turns.values().copied().reduce(f64::min);
        self.earliest = known.unwrap_or(self.earliest);
        for key in present {
            self.turns.entry(key.clone()).or_insert(self.earliest);
        }
    }

    fn of(&self, key: &K) -> f64 {
        self.turns.get(key).copied().unwrap_or(self.earliest)
    }

    fn served(&mut self, key: &K, weight: u16) {
        if let Some(turn) = self.turns.get_mut(key) {
            *turn += 1.0 / f64::from(weight.max(1));
        }
    }
}

impl Planner {
    /// Plans a lease of at most `capacity` jobs.
    pub fn plan(&mut self, pairs: &[Pair], capacity: u32) -> Vec<PlannedGrant> {
        if capacity == 0 || pairs.is_empty() {
            return Vec::new();
        }
        self.forget_gone(pairs);
        self.begin_turns(pairs);
        let mut plan = Vec::with_capacity(pairs.len() * 2 + 1);
        self.since_favour += capacity;
        if self.since_favour >= FAVOUR_EVERY && pairs.len() > 1 {
            let favoured = self.longest_unserved(pairs);
            plan.push(grant(favoured, self.since_favour / FAVOUR_EVERY));
            self.since_favour %= FAVOUR_EVERY;
        }
        let tenants = self.by_tenant(pairs);
        let parts = split(capacity, tenants.iter().map(|ordered| tenant_weight(ordered)));
        for (ordered, share) in tenants.iter().zip(parts) {
            plan.extend(shares(ordered, share));
        }
        if pairs.len() > 1 {
            for ordered in &tenants {
                plan.extend(ordered.iter().map(|pair| grant(pair, capacity)));
            }
        }
        plan
    }

    /// Takes note of what a lease brought.
    pub fn note_leased(&mut self, leased: impl IntoIterator<Item = (LaneId, Priority)>) {
        for pair in leased {
            self.granted += 1;
            self.served_at.insert(pair, self.granted);
            if let Some(known) = self.lanes.get(&pair.0) {
                self.tenant_turns.served(&known.tenant, known.of_tenant);
                self.lane_turns.served(&pair.0, known.of_lane);
            }
        }
    }

    fn begin_turns(&mut self, pairs: &[Pair]) {
        let is_known =
            |pair: &Pair| self.lanes.get(&pair.lane_id).is_some_and(|known| *known == LaneWeights::of(pair));
        // Mostly the same board is planned many times.
        if pairs.len() == self.planned_pairs && pairs.iter().all(is_known) {
            return;
        }
        self.planned_pairs = pairs.len();
        self.lanes = pairs.iter().map(|pair| (pair.lane_id, LaneWeights::of(pair))).collect();
        self.tenant_turns.begin(&pairs.iter().map(|pair| pair.tenant.clone()).collect());
        self.lane_turns.begin(&pairs.iter().map(|pair| pair.lane_id).collect());
    }

    /// Each tenant's pairs, the tenant whose turn is earliest first: the most urgent, then by turn, then the oldest.
    fn by_tenant<'a>(&self, pairs: &'a [Pair]) -> Vec<Vec<&'a Pair>> {
        let mut tenants: BTreeMap<&TenantName, Vec<&Pair>> = BTreeMap::new();
        for pair in pairs {
            tenants.entry(&pair.tenant).or_default().push(pair);
        }
        let mut tenants: Vec<_> = tenants.into_iter().collect();
        tenants.sort_by(|(a, _), (b, _)| self.tenant_turns.of(a).total_cmp(&self.tenant_turns.of(b)));
        for (_, ordered) in &mut tenants {
            ordered.sort_by(|a, b| {
                let turns = self.lane_turns.of(&a.lane_id).total_cmp(&self.lane_turns.of(&b.lane_id));
                let ages = b.age_ms.cmp(&a.age_ms);
                b.priority.cmp(&a.priority).then(turns).then(ages).then(a.lane_id.cmp(&b.lane_id))
            });
        }
        tenants.into_iter().map(|(_, ordered)| ordered).collect()
    }

    fn longest_unserved<'a>(&self, pairs: &'a [Pair]) -> &'a Pair {
        pairs
            .iter()
            .min_by_key(|pair| {
                let served = self.served_at.get(&(pair.lane_id, pair.priority)).copied().unwrap_or(0);
                (served, std::cmp::Reverse(pair.age_ms))
            })
            .expect("the caller checked that there are pairs")
    }

    /// Pairs without work need no memory: lanes come and go.
    fn forget_gone(&mut self, pairs: &[Pair]) {
        if self.served_at.len() > 2 * pairs.len() + 64 {
            let there: std::collections::HashSet<_> = pairs.iter().map(|p| (p.lane_id, p.priority)).collect();
            self.served_at.retain(|pair, _| there.contains(pair));
        }
    }
}

fn tenant_weight(ordered: &[&Pair]) -> u64 {
    ordered.first().map_or(1, |pair| u64::from(pair.tenant_weight.max(1)))
}

fn grant(pair: &Pair, limit: u32) -> PlannedGrant {
    PlannedGrant { lane_id: pair.lane_id, priority: pair.priority, limit }
}

/// A tenant's share over its pairs: all of it to the most urgent priority, by weight over that priority's pairs; then
/// the same for the next, which gets what the first left over.
fn shares(ordered: &[&Pair], share: u32) -> Vec<PlannedGrant> {
    ordered
        .chunk_by(|a, b| a.priority == b.priority)
        .flat_map(|same| {
            let parts = split(share, same.iter().map(|pair| u64::from(pair.weight.max(1))));
            same.iter().zip(parts).filter(|(_, part)| *part > 0).map(|(pair, part)| grant(pair, part))
        })
        .collect()
}

/// Whole parts of `whole` by weight, which add up to it; what is left over by rounding goes to those that stand first. Were
/// each part rounded up by itself, a tenant of many lanes would get a job for each of them.
fn split(whole: u32, weights: impl Iterator<Item = u64> + Clone) -> Vec<u32> {
    let total = weights.clone().sum::<u64>().max(1);
    let (mut weight_before, mut given) = (0, 0);
    weights
        .map(|weight| {
            weight_before += weight;
            let until = (u64::from(whole) * weight_before).div_ceil(total) as u32;
            std::mem::replace(&mut given, until).abs_diff(until)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(lane: i64, tenant: &str, priority: i64, age_ms: u64) -> Pair {
        Pair {
            lane_id: LaneId(lane),
            tenant: TenantName::new(tenant).unwrap(),
            priority: Priority::new(priority).unwrap(),
            age_ms,
            weight: 1,
            tenant_weight: 1,
        }
    }

    /// What a lease statement takes: grants in order, up to the depth of each pair and the capacity in all.
    fn lease(
        plan: &[PlannedGrant],
        depths: &mut HashMap<(LaneId, Priority), u32>,
        capacity: u32,
    ) -> Vec<LaneId> {
        let mut taken = Vec::new();
        for grant in plan {
            let depth = depths.get_mut(&(grant.lane_id, grant.priority)).unwrap();
            let take = (*depth).min(grant.limit).min(capacity - taken.len() as u32);
            *depth -= take;
            taken.extend(std::iter::repeat_n(grant.lane_id, take as usize));
        }
        taken
    }

    #[test]
    fn higher_priority_goes_first_within_a_tenant() {
        let pairs = [pair(1, "a", 1, 9_000), pair(2, "a", 5, 1)];
        let plan = Planner::default().plan(&pairs, 10);
        assert_eq!(plan[0], PlannedGrant { lane_id: LaneId(2), priority: Priority::MOST_URGENT, limit: 10 });
    }

    #[test]
    fn tenants_share_whatever_priorities_they_give() {
        let pairs = [pair(1, "a", 5, 9_000), pair(2, "b", 1, 1)];
        let plan = Planner::default().plan(&pairs, 10);
        let mut depths = HashMap::from([
            ((LaneId(1), Priority::MOST_URGENT), 1_000_000),
            ((LaneId(2), Priority::LEAST_URGENT), 100),
        ]);
        let taken = lease(&plan, &mut depths, 10);
        assert_eq!(taken.iter().filter(|lane| **lane == LaneId(2)).count(), 5);
    }

    /// Leases one job at a time, from pairs without end.
    fn one_by_one(planner: &mut Planner, pairs: &[Pair], jobs: u32) -> HashMap<LaneId, u32> {
        let mut taken = HashMap::new();
        for _ in 0..jobs {
            let first = planner.plan(pairs, 1)[0];
            planner.note_leased([(first.lane_id, first.priority)]);
            *taken.entry(first.lane_id).or_default() += 1;
        }
        taken
    }

    #[test]
    fn single_slots_are_shared_between_tenants_too() {
        let pairs = [pair(1, "a", 5, 9_000), pair(2, "b", 1, 1), pair(3, "b", 1, 2)];
        let taken = one_by_one(&mut Planner::default(), &pairs, 400);
        assert!((190..=210).contains(&taken[&LaneId(1)]), "{taken:?}");
        assert!(taken[&LaneId(2)].abs_diff(taken[&LaneId(3)]) <= 10, "{taken:?}");
    }

    #[test]
    fn queues_share_by_weight_whatever_the_capacity() {
        let pairs = [pair(1, "a", 3, 9_000), Pair { weight: 3, ..pair(2, "a", 3, 1) }];
        let taken = one_by_one(&mut Planner::default(), &pairs, 400);
        assert!((90..=120).contains(&taken[&LaneId(1)]), "{taken:?}");
        let plan = Planner::default().plan(&pairs, 16);
        let limits: HashMap<_, _> = plan.iter().take(2).map(|grant| (grant.lane_id, grant.limit)).collect();
        assert_eq!(limits, HashMap::from([(LaneId(1), 4), (LaneId(2), 12)]));
    }

    #[test]
    fn a_tenant_of_many_lanes_gets_no_more_than_its_share() {
        let many = (1..=1_000).map(|lane| pair(lane, "many", 5, 9_000));
        let pairs: Vec<Pair> = many.chain([pair(2_000, "one", 1, 1)]).collect();
        let plan = Planner::default().plan(&pairs, 10);
        let mut depths = pairs.iter().map(|pair| ((pair.lane_id, pair.priority), 1_000)).collect();
        let taken = lease(&plan, &mut depths, 10);
        assert_eq!(taken.iter().filter(|lane| **lane == LaneId(2_000)).count(), 5, "{taken:?}");
    }

    #[test]
    fn tenants_share_by_weight_whatever_the_capacity() {
        let pairs = [pair(1, "a", 5, 9_000), Pair { tenant_weight: 3, ..pair(2, "b", 1, 1) }];
        let taken = one_by_one(&mut Planner::default(), &pairs, 400);
        assert!((90..=120).contains(&taken[&LaneId(1)]), "{taken:?}");
        let plan = Planner::default().plan(&pairs, 16);
        let limits: HashMap<_, _> = plan.iter().take(2).map(|grant| (grant.lane_id, grant.limit)).collect();
        assert_eq!(limits, HashMap::from([(LaneId(1), 4), (LaneId(2), 12)]));
    }

    #[test]
    fn rest_earns_nothing() {
        let (busy, rested) = (pair(1, "a", 3, 1), pair(2, "b", 3, 1));
        let mut planner = Planner::default();
        one_by_one(&mut planner, std::slice::from_ref(&busy), 1_000);
        let taken = one_by_one(&mut planner, &[busy, rested], 100);
        assert!((40..=60).contains(&taken[&LaneId(2)]), "{taken:?}");
    }

    #[test]
    fn the_lowest_priority_gets_one_grant_in_twenty() {
        let pairs = [pair(1, "a", 5, 9_000), pair(2, "a", 1, 1)];
        let mut depths = HashMap::from([
            ((LaneId(1), Priority::MOST_URGENT), 100_000),
            ((LaneId(2), Priority::LEAST_URGENT), 100_000),
        ]);
        let mut planner = Planner::default();
        let mut low = 0;
        for _ in 0..200 {
            let plan = planner.plan(&pairs, 2);
            let taken = lease(&plan, &mut depths, 2);
            low += taken.iter().filter(|lane| **lane == LaneId(2)).count();
            planner.note_leased(taken.into_iter().map(|lane| {
                (lane, if lane == LaneId(1) { Priority::MOST_URGENT } else { Priority::LEAST_URGENT })
            }));
        }
        assert!((10..=20).contains(&low), "{low} of 400");
    }

    proptest! {
        /// The bound that `docs/configuration.md` states: whatever others have waiting, a tenant's first job is among the next
        /// leases whose jobs number the sum of the weights over its own, one for each other tenant that is owed one, and one
        /// for the favour.
        #[test]
        fn a_first_job_waits_for_no_more_than_a_turn_of_each(
            weights in prop::collection::vec(1_u16..6, 1..8), own in 1_u16..6, served in 0_u32..500,
            capacity in 1_u32..50,
        ) {
            let others: Vec<Pair> = weights
                .iter()
                .enumerate()
                .map(|(n, weight)| {
                    Pair { tenant_weight: *weight, ..pair(n as i64, &format!("t{n}"), 5, 9_000_000) }
                })
                .collect();
            let mut planner = Planner::default();
            one_by_one(&mut planner, &others, served);
            let late = Pair { tenant_weight: own, ..pair(99, "late", 1, 0) };
            let pairs: Vec<Pair> = others.iter().cloned().chain([late]).collect();
            let mut depths: HashMap<_, _> =
                pairs.iter().map(|pair| ((pair.lane_id, pair.priority), 1_000_000)).collect();
            let mut before = 0;
            let bound = weights.iter().map(|weight| u32::from(*weight).div_ceil(u32::from(own)) + 1).sum::<u32>() + 2;
            loop {
                let plan = planner.plan(&pairs, capacity);
                let taken = lease(&plan, &mut depths, capacity);
                let found = taken.iter().position(|lane| *lane == LaneId(99));
                let priority_of = |lane: LaneId| if lane == LaneId(99) { 1 } else { 5 };
                planner.note_leased(
                    taken.iter().map(|lane| (*lane, Priority::new(priority_of(*lane)).unwrap())),
                );
                if found.is_some() {
                    // Of the leases before its own; within a lease all come together.
                    prop_assert!(before <= bound, "after {} jobs, bound {}", before, bound);
                    break;
                }
                before += taken.len() as u32;
                prop_assert!(before <= bound + capacity, "never within {}", bound);
            }
        }

        #[test]
        fn capacity_is_used_where_there_is_work(
            rows in prop::collection::vec((0_i64..20, 0_u8..3, 1_i64..=5, 0_u64..1000, 1_u32..50), 1..30),
            capacity in 1_u32..200,
        ) {
            let mut depths = HashMap::new();
            let mut pairs = Vec::new();
            for (lane, tenant, priority, age, depth) in rows {
                let row = pair(lane * 3 + i64::from(tenant), &format!("t{tenant}"), priority, age);
                if depths.insert((row.lane_id, row.priority), depth).is_none() {
                    pairs.push(row);
                }
            }
            let work: u32 = depths.values().sum();
            let plan = Planner::default().plan(&pairs, capacity);
            let taken = lease(&plan, &mut depths, capacity);
            prop_assert_eq!(taken.len() as u32, capacity.min(work));
        }
    }
}
