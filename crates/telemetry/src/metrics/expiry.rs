//! What is measured about leases that end without their worker: deaths, the brake, what is overdue or held.
//!
//! Counters are shown from the start, as zero: the first event is then a rise that an alert can see.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};

use crate::names::{field, metric};

/// The instruments of a scheduler that are about expiry. Clones share them.
#[derive(Clone)]
pub struct ExpiryMetrics {
    leases_expired: Counter<u64>,
    incarnations_died: Counter<u64>,
    brake_engaged: Gauge<u64>,
    brake_engagements: Counter<u64>,
    leases_overdue: Gauge<u64>,
    leases_overdue_age: Gauge<f64>,
    incarnations: Gauge<u64>,
    jobs_held: Gauge<u64>,
    /// Reasons that were shown: what is gone since must be told to be zero, as gauges keep their value.
    reasons: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// How a worker's death was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// It stopped beating.
    Silent,
    /// Its lock file on this host is free.
    Known,
}

impl Death {
    const ALL: [Self; 2] = [Self::Silent, Self::Known];

    fn label(self) -> KeyValue {
        let word = match self {
            Self::Silent => "silent",
            Self::Known => "known",
        };
        KeyValue::new(field::DEATH, word)
    }
}

/// How leases and workers stand at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LeaseStanding {
    /// Leases of dead or silent workers that nobody has taken from them yet.
    pub overdue: u64,
    /// For how long the oldest of them could have been taken.
    pub overdue_age: Duration,
    /// Workers whose last beat is fresh.
    pub fresh: u64,
    /// Workers that have missed a beat or two.
    pub late: u64,
    /// Workers whose last beat is older than the lease TTL, and who are not marked dead.
    pub silent: u64,
    /// Held jobs by reason; a reason that is left out has none.
    pub held: Vec<(&'static str, u64)>,
}

impl ExpiryMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build()
        };
        let gauge = |name: &'static str, description: &'static str| {
            meter.u64_gauge(name).with_description(description).build()
        };
        let made = Self {
            leases_expired: counter(metric::LEASES_EXPIRED, "Leases taken from dead workers"),
            incarnations_died: counter(metric::INCARNATIONS_DIED, "Workers found dead"),
            brake_engaged: gauge(metric::BRAKE_ENGAGED, "1 while the reaper marks nobody dead"),
            brake_engagements: counter(metric::BRAKE_ENGAGEMENTS, "How often the brake was engaged"),
            leases_overdue: gauge(metric::LEASES_OVERDUE, "Leases of dead or silent workers, not taken yet"),
            leases_overdue_age: meter
                .f64_gauge(metric::LEASES_OVERDUE_AGE)
                .with_unit("s")
                .with_description("For how long the oldest such lease could have been taken")
                .build(),
            incarnations: gauge(metric::INCARNATIONS, "Workers by the age of their last beat"),
            jobs_held: gauge(metric::JOBS_HELD, "Held jobs by reason"),
            reasons: Arc::default(),
        };
        for death in Death::ALL {
            made.leases_expired(death, 0);
            made.incarnations_died(death, 0);
        }
        made
    }

    /// Leases were taken from dead workers.
    pub fn leases_expired(&self, death: Death, leases: u64) {
        self.leases_expired.add(leases, &[death.label()]);
    }

    /// Workers were found dead.
    pub fn incarnations_died(&self, death: Death, incarnations: u64) {
        self.incarnations_died.add(incarnations, &[death.label()]);
    }

    /// The reaper can't trust what it sees and marks nobody dead.
    pub fn brake_engaged(&self) {
        self.brake_engaged.record(1, &[]);
    }

    /// The reaper marks workers dead again.
    pub fn brake_released(&self) {
        self.brake_engaged.record(0, &[]);
    }

    /// Something engaged the brake, or made it hold for longer; 0 `times` shows the cause beforehand.
    pub fn brake_was_engaged(&self, cause: &'static str, times: u64) {
        self.brake_engagements.add(times, &[KeyValue::new(field::BRAKE_CAUSE, cause)]);
    }

    /// How leases and workers stand now.
    pub fn set_standing(&self, standing: &LeaseStanding) {
        self.leases_overdue.record(standing.overdue, &[]);
        self.leases_overdue_age.record(standing.overdue_age.as_secs_f64(), &[]);
        for (word, count) in [("fresh", standing.fresh), ("late", standing.late), ("silent", standing.silent)]
        {
            self.incarnations.record(count, &[KeyValue::new(field::BEAT, word)]);
        }
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<_> = standing.held.iter().map(|(reason, _)| *reason).collect();
        let gone = reasons.difference(&now).map(|reason| (*reason, 0));
        for (reason, jobs) in gone.chain(standing.held.iter().copied()) {
            self.jobs_held.record(jobs, &[KeyValue::new(field::HOLD_REASON, reason)]);
        }
        *reasons = now;
    }
}
