//! What a scheduler measures.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter},
};

use super::{ExpiryMetrics, FAST_SECONDS, GateMetrics};
use crate::names::{field, metric};

/// The instruments of a scheduler. Clones share them.
#[derive(Clone)]
pub struct SchedulerMetrics {
    jobs: Gauge<u64>,
    oldest_age: Gauge<f64>,
    submitted: Counter<u64>,
    http_duration: Histogram<f64>,
    webhook_duration: Histogram<f64>,
    expiry: ExpiryMetrics,
    gates: GateMetrics,
    /// What was reported last: what is gone since must be told to be zero, as gauges keep their value.
    reported: Arc<Mutex<BTreeSet<(String, &'static str)>>>,
}

/// How many jobs of a queue are in one state.
#[derive(Clone, PartialEq, Debug)]
pub struct QueueDepth {
    /// The line.
    pub queue: String,
    /// The state's word.
    pub state: &'static str,
    /// How many.
    pub jobs: u64,
    /// Age of the oldest that could run; for `queued` only.
    pub oldest_age: Option<Duration>,
}

/// One HTTP request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct HttpMeasure<'a> {
    /// `GET`, `POST`, ….
    pub method: &'a str,
    /// The route's pattern, never the path with its ids; `None` where none matched.
    pub route: Option<&'a str>,
    /// HTTP status.
    pub status_code: u16,
    /// From the request's head to the answer's head.
    pub duration: Duration,
}

impl SchedulerMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            jobs: meter.u64_gauge(metric::JOBS).with_description("Jobs by queue and state").build(),
            oldest_age: meter
                .f64_gauge(metric::OLDEST_AGE)
                .with_unit("s")
                .with_description("Age of the oldest job that could run")
                .build(),
            submitted: meter.u64_counter(metric::SUBMITTED).with_description("Jobs accepted").build(),
            http_duration: meter
                .f64_histogram(metric::HTTP_SERVER_DURATION)
                .with_unit("s")
                .with_description("Duration of HTTP requests")
                .with_boundaries(FAST_SECONDS.to_vec())
                .build(),
            webhook_duration: meter
                .f64_histogram(metric::WEBHOOK_DURATION)
                .with_unit("s")
                .with_description("Duration of tries to tell of a job's end")
                .with_boundaries(super::WAIT_SECONDS.to_vec())
                .build(),
            expiry: ExpiryMetrics::new(meter),
            gates: GateMetrics::new(meter),
            reported: Arc::default(),
        }
    }

    /// The depths of all queues, as they are at a scrape.
    pub fn set_depths(&self, depths: &[QueueDepth]) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<_> = depths.iter().map(|depth| (depth.queue.clone(), depth.state)).collect();
        for (queue, state) in reported.difference(&now) {
            self.jobs.record(0, &depth_labels(queue, state));
            self.oldest_age.record(0.0, &[KeyValue::new(field::QUEUE, queue.clone())]);
        }
        for depth in depths {
            self.jobs.record(depth.jobs, &depth_labels(&depth.queue, depth.state));
            if let Some(age) = depth.oldest_age {
                self.oldest_age
                    .record(age.as_secs_f64(), &[KeyValue::new(field::QUEUE, depth.queue.clone())]);
            }
        }
        *reported = now;
    }

    /// Jobs were accepted over `protocol` (`rest`, `grpc`, …).
    pub fn submitted(&self, protocol: &'static str, jobs: u64) {
        self.submitted.add(jobs, &[KeyValue::new(field::PROTOCOL, protocol)]);
    }

    /// A webhook was tried: `delivered`, `tried` (in vain, and due again), `failed` or `disabled`.
    pub fn webhook_tried(&self, outcome: &'static str, duration: Duration) {
        self.webhook_duration
            .record(duration.as_secs_f64(), &[KeyValue::new(field::WEBHOOK_OUTCOME, outcome)]);
    }

    /// What the reaper measures.
    pub fn expiry(&self) -> &ExpiryMetrics {
        &self.expiry
    }

    /// What stands before calls.
    pub fn gates(&self) -> &GateMetrics {
        &self.gates
    }

    /// An HTTP request was answered.
    pub fn http_answered(&self, request: &HttpMeasure<'_>) {
        self.http_duration.record(
            request.duration.as_secs_f64(),
            &[
                KeyValue::new(field::HTTP_REQUEST_METHOD, request.method.to_owned()),
                KeyValue::new(field::HTTP_ROUTE, request.route.unwrap_or("none").to_owned()),
                KeyValue::new(field::HTTP_RESPONSE_STATUS_CODE, i64::from(request.status_code)),
            ],
        );
    }
}

fn depth_labels(queue: &str, state: &'static str) -> [KeyValue; 2] {
    [KeyValue::new(field::QUEUE, queue.to_owned()), KeyValue::new(field::JOB_STATE, state)]
}
