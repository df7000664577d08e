//! Reads the board above floors, and keeps the floors.
//!
//! While leases flow the board is read several times a second, more often the cheaper it is: the floors rise with each
//! look, and what lies dead between a floor and the first live row is walked by each lease. Every half minute one look
//! is made from the beginning, beside the leasing, as the net under the floors: under an old snapshot it may walk over
//! millions of dead rows.

use std::{sync::Arc, time::Duration};

use sluice_domain::{LaneId, LowestKeys, PairFloors, Priority};
use sluice_policy::floors::Floors;
use sluice_store::{BoardEntry, StoreError};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{core::Core, incarnation::bounded, lease_loop::Work};

/// The board is read again after so many times what reading it took.
const REST_FACTOR: u32 = 10;
/// But not more often than this,
const MIN_AGE: Duration = Duration::from_millis(25);
/// nor less often.
const MAX_AGE: Duration = Duration::from_millis(200);
/// How often a look is made from the beginning.
const NET_INTERVAL: Duration = Duration::from_secs(30);
/// How long that look may take.
const NET_TIMEOUT: Duration = Duration::from_mins(1);

type Lowest = Vec<(LaneId, Priority, LowestKeys)>;

/// Looks at the board for one worker.
pub(crate) struct BoardReader {
    floors: Floors,
    /// How long a look counts as fresh.
    pub(crate) fresh_for: Duration,
    /// A look from the beginning that is under way, and the floors before it.
    net: Option<(JoinHandle<Result<Lowest, StoreError>>, Floors)>,
    next_net: Instant,
}

impl BoardReader {
    pub(crate) fn new() -> Self {
        Self {
            floors: Floors::default(),
            fresh_for: MAX_AGE,
            net: None,
            next_net: Instant::now() + NET_INTERVAL,
        }
    }

    /// Looks; the pairs that this worker may lease from.
    pub(crate) async fn read(
        &mut self,
        core: &Arc<Core>,
        work: &Work,
    ) -> Result<Vec<BoardEntry>, StoreError> {
        self.see_to_net(core, work).await;
        let known: Vec<(LaneId, Priority, PairFloors)> = self.floors.pairs().collect();
        let begun = Instant::now();
        let look =
            bounded(core.store.board_above(work.tenant.as_ref(), work.queues.as_deref(), &known)).await?;
        self.fresh_for = (begun.elapsed() * REST_FACTOR).clamp(MIN_AGE, MAX_AGE);
        self.floors.observe(look.bounds, look.lowest);
        Ok(look.entries)
    }

    /// Where a lease of this pair begins.
    pub(crate) fn floors_of(&self, lane: LaneId, priority: Priority) -> PairFloors {
        self.floors.of(lane, priority)
    }

    /// Something failed: another server may answer next, for which the floors say nothing.
    pub(crate) fn forget(&mut self) {
        self.floors.forget_all();
        if let Some((net, _)) = self.net.take() {
            net.abort();
        }
    }

    /// Takes in a look from the beginning that has come back, and begins the next when it is time.
    async fn see_to_net(&mut self, core: &Arc<Core>, work: &Work) {
        if let Some((net, then)) = self.net.take_if(|(net, _)| net.is_finished())
            && let Ok(Ok(lowest)) = net.await
        {
            let lowered = self.floors.check(&then, lowest);
            if lowered > 0 {
                tracing::warn!(lines = lowered, "jobs stood below a floor; they are leased now");
            }
        }
        if self.net.is_some() || Instant::now() < self.next_net {
            return;
        }
        self.next_net = Instant::now() + NET_INTERVAL;
        let (core, tenant, queues) = (Arc::clone(core), work.tenant.clone(), work.queues.clone());
        let look = tokio::spawn(async move {
            let look = core.store.board_above(tenant.as_ref(), queues.as_deref(), &[]);
            match timeout(NET_TIMEOUT, look).await {
                Ok(look) => look.map(|look| look.lowest),
                Err(_) => Ok(Vec::new()),
            }
        });
        self.net = Some((look, self.floors.clone()));
    }
}

impl Drop for BoardReader {
    fn drop(&mut self) {
        if let Some((net, _)) = &self.net {
            net.abort();
        }
    }
}
