//! The half that leases: it plans by the board and keeps floors, as the product's worker does.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sluice_domain::{IncarnationId, LeasedJob, LimitId};
use sluice_policy::{
    board::{Pair, Planner},
    floors::Floors,
};
use sluice_store::{BoardEntry, Grant, LimitedGrant, Store};
use tokio::sync::mpsc;

use super::{SETTLE_GROUP, Shared};

/// How old the board may be that a lease is planned by: so many times what reading it took, within these bounds, as in
/// `worker/src/board_reader.rs`.
const REST_FACTOR: u32 = 10;
const MIN_AGE: Duration = Duration::from_millis(25);
const MAX_AGE: Duration = Duration::from_millis(200);
/// The most lanes of a lease with limits, as in `worker/src/lease_statement.rs`.
const MOST_LANES: usize = 16;
/// How long a worker rests when it found nothing. The product's is rung instead.
const REST: Duration = Duration::from_millis(2);
/// Without a single job for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one worker knows of the lines; it stays with the worker from one load of work to the next.
#[derive(Debug)]
pub(super) struct Leasing {
    store: Store,
    incarnation: IncarnationId,
    /// Of which all lanes take; none: there are no limits.
    limits: Arc<[LimitId]>,
    planner: Planner,
    floors: Floors,
    pairs: Vec<Pair>,
    /// Until when the board counts as fresh; `None`: it is to be read.
    board_until: Option<Instant>,
}

impl Leasing {
    pub(super) fn new(store: Store, incarnation: IncarnationId) -> Self {
        Self {
            store,
            incarnation,
            limits: Arc::default(),
            planner: Planner::default(),
            floors: Floors::default(),
            pairs: Vec::new(),
            board_until: None,
        }
    }

    pub(super) fn limit_by(&mut self, limits: Arc<[LimitId]>) {
        self.limits = limits;
    }

    /// Leases until nothing is left to claim, and hands over groups to settle.
    pub(super) async fn run(&mut self, shared: &Shared, sender: mpsc::Sender<Vec<LeasedJob>>) -> Result<()> {
        let mut last_came = Instant::now();
        while !shared.is_over() {
            let wanted = shared.claim();
            if wanted == 0 {
                break;
            }
            let mut leased = self.lease(wanted, shared).await?;
            shared.give_back(u64::from(wanted) - leased.len() as u64);
            if leased.is_empty() {
                ensure!(last_came.elapsed() < PATIENCE, "no job came for {} s", PATIENCE.as_secs());
                tokio::time::sleep(REST).await;
                continue;
            }
            last_came = Instant::now();
            while !leased.is_empty() {
                let rest = leased.split_off(leased.len().min(SETTLE_GROUP));
                if sender.send(std::mem::replace(&mut leased, rest)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The board is read anew when it is old or did not hold what it promised, as the product does.
    async fn lease(&mut self, wanted: u32, shared: &Shared) -> Result<Vec<LeasedJob>> {
        if self.board_until.is_none_or(|until| Instant::now() > until) {
            self.read_board().await?;
        }
        let grants: Vec<Grant> = self
            .planner
            .plan(&self.pairs, wanted)
            .into_iter()
            .map(|planned| Grant {
                lane_id: planned.lane_id,
                priority: planned.priority,
                limit: planned.limit,
                floors: self.floors.of(planned.lane_id, planned.priority),
            })
            .collect();
        if grants.is_empty() {
            self.board_until = None;
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let leased = self.lease_granted(grants, wanted).await?;
        if !leased.is_empty() {
            shared.note_lease(begun.elapsed());
        }
        self.planner.note_leased(leased.iter().map(|job| (job.lane_id, job.priority)));
        if leased.len() < wanted as usize {
            self.board_until = None;
        }
        Ok(leased)
    }

    async fn lease_granted(&self, grants: Vec<Grant>, wanted: u32) -> Result<Vec<LeasedJob>> {
        if self.limits.is_empty() {
            return Ok(self.store.lease_many(self.incarnation, &grants, wanted).await?);
        }
        let mut lanes = HashSet::new();
        let mut is_named = |grant: &Grant| {
            lanes.contains(&grant.lane_id) || (lanes.len() < MOST_LANES && lanes.insert(grant.lane_id))
        };
        let limited = |grant| LimitedGrant { grant, limits: Arc::clone(&self.limits) };
        let grants: Vec<_> = grants.into_iter().filter(|grant| is_named(grant)).map(limited).collect();
        Ok(self.store.lease_limited_many(self.incarnation, &grants, wanted).await?.jobs)
    }

    async fn read_board(&mut self) -> Result<()> {
        let known: Vec<_> = self.floors.pairs().collect();
        let begun = Instant::now();
        let look = self.store.board_above(None, None, &known).await?;
        let took = begun.elapsed();
        self.floors.observe(look.bounds, look.lowest);
        self.pairs = look.entries.into_iter().filter_map(runnable).collect();
        self.board_until = Some(Instant::now() + (took * REST_FACTOR).clamp(MIN_AGE, MAX_AGE));
        Ok(())
    }
}

fn runnable(entry: BoardEntry) -> Option<Pair> {
    let age_ms = entry.age?.as_millis() as u64;
    Some(Pair {
        lane_id: entry.lane_id,
        tenant: entry.tenant,
        priority: entry.priority,
        age_ms,
        weight: 1,
        tenant_weight: 1,
    })
}
