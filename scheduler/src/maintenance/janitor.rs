//! What is due once an hour: partitions ahead, partitions past their retention, workers long dead, leases of nobody.

use std::time::Duration;

use sluice_store::{CrashPoint, Store, crash_point};

use super::{
    MaintenanceOptions,
    pace::{asked, rest},
};

const PERIOD: Duration = Duration::from_hours(1);
/// After a round in which the database was away.
const RETRY: Duration = Duration::from_mins(1);
/// Far enough that schedulers may be down over holidays.
const WEEKS_AHEAD: u8 = 4;

pub(super) struct Janitor {
    store: Store,
    keep_results: Duration,
    keep_ledger: Duration,
}

impl Janitor {
    pub(super) fn new(store: Store, options: &MaintenanceOptions) -> Self {
        Self { store, keep_results: options.keep_results, keep_ledger: options.keep_ledger }
    }

    pub(super) async fn run(self) {
        loop {
            let period = if self.tidy().await.is_some() { PERIOD } else { RETRY };
            rest(period).await;
        }
    }

    /// One round; `None` where a statement failed.
    async fn tidy(&self) -> Option<()> {
        let made = asked("ensure_partitions", self.store.partitions_ensure(WEEKS_AHEAD)).await?;
        crash_point(CrashPoint::PartitionsMade);
        let dropped = self.store.partitions_drop(self.keep_results, self.keep_ledger);
        let dropped = asked("drop_partitions", dropped).await?;
        crash_point(CrashPoint::PartitionsDropped);
        let orphans = asked("expire_orphans", self.store.orphans_expire()).await?;
        crash_point(CrashPoint::OrphansExpired);
        if orphans > 0 {
            tracing::error!(
                leases = orphans,
                "leases were ended whose worker has no row: somebody removed it"
            );
        }
        asked("forget_webhooks", self.store.webhooks_forget(self.keep_results)).await?;
        let forgotten = asked("forget_incarnations", self.store.incarnations_forget()).await?;
        if made > 0 || dropped > 0 || forgotten > 0 {
            tracing::info!(made, dropped, forgotten, "partitions and dead workers were tidied up");
        }
        Some(())
    }
}
