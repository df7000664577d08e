//! Ends the leases of workers that stopped beating.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryFutureExt;
use sluice_policy::brake::{BrakeCause, OutageBrake, Scan};
use sluice_store::{CrashPoint, ReapRequest, Reaped, Store, crash_point};
use sluice_telemetry::{Death, ExpiryMetrics};

use super::{
    MaintenanceOptions,
    pace::{asked, rest},
};

/// As many leases as one scan ends at most, and as many workers as it marks dead (`Store::reap`).
const PAGE: u32 = 1_000;

pub(super) struct LeaseReaper {
    store: Store,
    ttl: Duration,
    period: Duration,
    metrics: ExpiryMetrics,
    brake: OutageBrake,
    started: Instant,
    last: Option<Scan>,
}

impl LeaseReaper {
    pub(super) fn new(store: Store, options: &MaintenanceOptions) -> Self {
        let metrics = options.metrics.expiry().clone();
        for cause in BrakeCause::ALL {
            metrics.brake_was_engaged(cause.as_str(), 0);
        }
        Self {
            store,
            ttl: options.lease_ttl,
            period: options.scan,
            metrics,
            brake: OutageBrake::new(options.lease_ttl),
            started: Instant::now(),
            last: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            // A full page may hide more: look again at once.
            while self.scan().await.is_some_and(|reaped| reaped.leases >= PAGE || reaped.marked >= PAGE) {}
            self.show_brake();
            rest(self.period).await;
        }
    }

    async fn scan(&mut self) -> Option<Reaped> {
        let before = self.started.elapsed();
        let request = ReapRequest { ttl: self.ttl, expected: self.brake.expects(before) };
        let held_before = self.brake.holds(before);
        let mut is_own_fault = false;
        let reap = self.store.reap(request).inspect_err(|error| is_own_fault = error.is_pool_exhausted());
        let Some(reaped) = asked("reap_leases", reap).await else {
            // Beats have connections of their own: that ours are all in use says nothing about them.
            if !is_own_fault && let Some(cause) = self.brake.note_failed_scan(self.started.elapsed()) {
                self.note_engaged(cause, held_before);
            }
            return None;
        };
        if reaped.marked > 0 || reaped.leases > 0 {
            crash_point(CrashPoint::Reaped);
        }
        let at = scan_moment(self.last, before, self.started.elapsed(), reaped.database_now);
        let scan = Scan { at, database_now: reaped.database_now, postmaster_start: reaped.postmaster_start };
        if let Some(cause) = self.brake.note_scan(scan) {
            self.note_engaged(cause, held_before);
        }
        self.last = Some(scan);
        if reaped.marked > 0 {
            tracing::warn!(workers = reaped.marked, leases = reaped.leases, "workers stopped beating");
        }
        self.metrics.incarnations_died(Death::Silent, reaped.marked.into());
        if reaped.leases > 0 {
            self.metrics.leases_expired(Death::Silent, reaped.leases.into());
            asked("wake_sleepers", self.store.wake_sleepers()).await;
        }
        Some(reaped)
    }

    fn note_engaged(&self, cause: BrakeCause, held_before: bool) {
        self.metrics.brake_was_engaged(cause.as_str(), 1);
        // A start is no news.
        if cause != BrakeCause::Started && !held_before {
            tracing::warn!(
                cause = cause.as_str(),
                "the database was away or its clock jumped: no worker is marked dead for one lease TTL"
            );
        }
    }

    /// What the next scan may do is what counts: while none succeeds, it may do nothing more after half a TTL.
    fn show_brake(&self) {
        if self.brake.expects(self.started.elapsed()).is_none() {
            self.metrics.brake_engaged();
        } else {
            self.metrics.brake_released();
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
