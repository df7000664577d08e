//! Shows how leases and workers stand: what is overdue, who beats late, what is held. Measures only.

use std::time::{Duration, Instant};

use sluice_store::{LeaseHealth, Store};
use sluice_telemetry::{ExpiryMetrics, LeaseStanding};

use super::{
    MaintenanceOptions,
    pace::{asked, rest},
};

/// Counting may take up to a tenth of the database's time.
const RELIEF: u32 = 10;

pub(super) struct LeaseWatch {
    store: Store,
    ttl: Duration,
    metrics: ExpiryMetrics,
}

impl LeaseWatch {
    pub(super) fn new(store: Store, options: &MaintenanceOptions) -> Self {
        Self { store, ttl: options.lease_ttl, metrics: options.metrics.expiry().clone() }
    }

    pub(super) async fn run(self) {
        loop {
            let begun = Instant::now();
            if let Some(health) = asked("read_lease_health", self.store.lease_health(self.ttl)).await {
                self.metrics.set_standing(&standing(health));
            }
            rest(self.ttl.max(begun.elapsed() * RELIEF)).await;
        }
    }
}

fn standing(health: LeaseHealth) -> LeaseStanding {
    LeaseStanding {
        overdue: health.overdue,
        overdue_age: health.overdue_age,
        fresh: health.fresh,
        late: health.late,
        silent: health.silent,
        held: health.held.into_iter().map(|(reason, jobs)| (reason.as_str(), jobs)).collect(),
    }
}
