//! What stands before calls: limits and their use, gates that are closed for a time, pauses, breakers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Gauge, Meter},
};

use crate::names::{field, metric};

/// The instruments. Clones share them.
#[derive(Clone)]
pub struct GateMetrics {
    cap: Gauge<u64>,
    used: Gauge<u64>,
    closed: Gauge<f64>,
    paused: Gauge<u64>,
    breaker_open: Gauge<u64>,
    /// What was reported last: what is gone since must be told to be zero, as gauges keep their value.
    reported: Arc<Mutex<BTreeSet<Reported>>>,
}

/// What stands before calls at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct GateStanding {
    /// The limits that are declared.
    pub limits: Vec<LimitStanding>,
    /// Gates that upstreams closed for a time.
    pub closed: Vec<ClosedGate>,
    /// What is paused: its kind and its name.
    pub paused: Vec<(&'static str, String)>,
    /// Upstreams whose breaker is open.
    pub failing: Vec<String>,
}

/// A limit and its use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitStanding {
    /// The account; empty: it is a queue's.
    pub account: String,
    /// The model; empty: all of the account's together, or it is a queue's.
    pub model: String,
    /// Whose queue; empty: it is an account's.
    pub tenant: String,
    /// The queue; empty: it is an account's.
    pub queue: String,
    /// `concurrency`, `requests` or `tokens`.
    pub kind: &'static str,
    /// Seconds of its window; 0 for concurrency.
    pub window_s: u32,
    /// So much at most, now.
    pub cap: u64,
    /// Spent and reserved.
    pub used: u64,
}

/// A gate that is closed for a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedGate {
    /// `upstream` or `account`.
    pub kind: &'static str,
    /// Its name in the configuration.
    pub name: String,
    /// The model, by its name there.
    pub model: String,
    /// For so long.
    pub left: Duration,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reported {
    Limit(Labels),
    Closed(Labels),
    Paused(Labels),
    Breaker(Labels),
}

impl GateMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let count = |name: &'static str, description: &'static str| {
            meter.u64_gauge(name).with_description(description).build()
        };
        Self {
            cap: count(metric::LIMIT_CAP, "How much a limit allows now"),
            used: count(metric::LIMIT_USED, "How much of a limit is spent or reserved"),
            closed: meter
                .f64_gauge(metric::GATE_CLOSED)
                .with_unit("s")
                .with_description("For how long a gate is still closed that its upstream closed")
                .build(),
            paused: count(metric::PAUSED, "1 while an upstream, account or model is paused"),
            breaker_open: count(metric::BREAKER_OPEN, "1 while an upstream fails and is not called"),
            reported: Arc::default(),
        }
    }

    /// How everything stands, as the database knows it.
    pub fn set(&self, standing: &GateStanding) {
        let mut now = BTreeSet::new();
        for limit in &standing.limits {
            let labels = limit.labels();
            self.cap.record(limit.cap, &key_values(&labels));
            self.used.record(limit.used, &key_values(&labels));
            now.insert(Reported::Limit(labels));
        }
        for gate in &standing.closed {
            let labels = gate.labels();
            self.closed.record(gate.left.as_secs_f64(), &key_values(&labels));
            now.insert(Reported::Closed(labels));
        }
        for (kind, name) in &standing.paused {
            let labels = vec![(field::GATE_KIND, (*kind).to_owned()), (field::GATE_NAME, name.clone())];
            self.paused.record(1, &key_values(&labels));
            now.insert(Reported::Paused(labels));
        }
        for upstream in &standing.failing {
            let labels = vec![(field::UPSTREAM, upstream.clone())];
            self.breaker_open.record(1, &key_values(&labels));
            now.insert(Reported::Breaker(labels));
        }
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in reported.difference(&now) {
            self.clear(gone);
        }
        *reported = now;
    }

    fn clear(&self, gone: &Reported) {
        match gone {
            Reported::Limit(labels) => {
                self.cap.record(0, &key_values(labels));
                self.used.record(0, &key_values(labels));
            }
            Reported::Closed(labels) => self.closed.record(0.0, &key_values(labels)),
            Reported::Paused(labels) => self.paused.record(0, &key_values(labels)),
            Reported::Breaker(labels) => self.breaker_open.record(0, &key_values(labels)),
        }
    }
}

impl LimitStanding {
    /// Those that say something.
    fn labels(&self) -> Labels {
        let named = [
            (field::ACCOUNT, &self.account),
            (field::GEN_AI_REQUEST_MODEL, &self.model),
            (field::TENANT, &self.tenant),
            (field::QUEUE, &self.queue),
        ];
        let mut labels: Labels = vec![(field::LIMIT_KIND, self.kind.to_owned())];
        labels.extend(
            named.into_iter().filter(|(_, name)| !name.is_empty()).map(|(key, name)| (key, name.clone())),
        );
        if self.window_s > 0 {
            labels.push((field::LIMIT_WINDOW_S, self.window_s.to_string()));
        }
        labels
    }
}

impl ClosedGate {
    fn labels(&self) -> Labels {
        vec![
            (field::GATE_KIND, self.kind.to_owned()),
            (field::GATE_NAME, self.name.clone()),
            (field::GEN_AI_REQUEST_MODEL, self.model.clone()),
        ]
    }
}

fn key_values(labels: &[(&'static str, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| KeyValue::new(*key, value.clone())).collect()
}
