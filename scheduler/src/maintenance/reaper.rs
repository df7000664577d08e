//! Ends the leases of workers that stopped beating.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sluice_policy::brake::{OutageBrake, Scan};
use sluice_store::{ReapRequest, Store};
use sluice_telemetry::SchedulerMetrics;

use super::{
    MaintenanceOptions,
    known_dead::end_known_dead,
    pace::{asked, rest},
};

/// As many leases as one scan ends at most (`Store::reap`).
const PAGE: u32 = 1_000;
/// Each so many scans, this host's lock files are looked at.
const SCANS_A_LOOK: u32 = 3;

pub(super) struct LeaseReaper {
    store: Store,
    ttl: Duration,
    period: Duration,
    host: String,
    metrics: SchedulerMetrics,
    brake: OutageBrake,
    started: Instant,
    last: Option<Scan>,
}

impl LeaseReaper {
    pub(super) fn new(store: Store, options: MaintenanceOptions) -> Self {
        Self {
            store,
            ttl: options.lease_ttl,
            period: options.scan,
            host: options.host,
            metrics: options.metrics,
            brake: OutageBrake::new(options.lease_ttl),
            started: Instant::now(),
            last: None,
        }
    }

    pub(super) async fn run(mut self) {
        for scan in 0_u32.. {
            if scan % SCANS_A_LOOK == 0 {
                let leases = end_known_dead(&self.store, &self.host).await;
                self.note_ended(leases).await;
            }
            // A full page may hide more: look again at once.
            while self.scan().await >= PAGE {}
            rest(self.period).await;
        }
    }

    /// One scan; says how many leases ended.
    async fn scan(&mut self) -> u32 {
        let before = self.started.elapsed();
        let request = ReapRequest { ttl: self.ttl, expected: self.brake.expects(before) };
        let Some(reaped) = asked("reap_leases", self.store.reap(request)).await else { return 0 };
        let held_before = self.brake.holds(before);
        let at = scan_moment(self.last, before, self.started.elapsed(), reaped.database_now);
        let scan = Scan { at, database_now: reaped.database_now, postmaster_start: reaped.postmaster_start };
        self.brake.note_scan(scan);
        self.last = Some(scan);
        self.show_brake(held_before);
        if reaped.marked > 0 {
            tracing::warn!(workers = reaped.marked, leases = reaped.leases, "workers stopped beating");
        }
        self.note_ended(reaped.leases).await;
        reaped.leases
    }

    fn show_brake(&self, held_before: bool) {
        let holds = self.brake.holds(self.started.elapsed());
        if holds {
            self.metrics.brake_engaged();
        } else {
            self.metrics.brake_released();
        }
        if holds && !held_before {
            tracing::warn!(
                "the database was away or its clock jumped: no worker is marked dead for one lease TTL"
            );
        }
    }

    async fn note_ended(&self, leases: u32) {
        if leases > 0 {
            self.metrics.leases_expired(u64::from(leases));
            asked("wake_sleepers", self.store.wake_sleepers()).await;
        }
    }
}

/// When, by our own clock, the database read its clock: some time between the question and the answer. The moment that
/// fits the scan before is taken, so that a wait for a connection or a long page is no reason to brake.
fn scan_moment(
    last: Option<Scan>,
    before: Duration,
    after: Duration,
    database_now: DateTime<Utc>,
) -> Duration {
    let Some(last) = last else { return after };
    let fitting = TimeDelta::from_std(last.at)
        .map(|at| at + (database_now - last.database_now))
        .ok()
        .and_then(|at| at.to_std().ok());
    fitting.unwrap_or(before).clamp(before, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(database_s: i64) -> Duration {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let last = Scan { at: Duration::from_secs(10), database_now: at(1_000), postmaster_start: at(1) };
        scan_moment(Some(last), Duration::from_secs(12), Duration::from_secs(15), at(database_s))
    }

    #[test]
    fn a_scan_happened_between_its_question_and_its_answer() {
        assert_eq!(moment(1_004), Duration::from_secs(14));
        assert_eq!(moment(1_900), Duration::from_secs(15));
        assert_eq!(moment(100), Duration::from_secs(12));
    }
}
