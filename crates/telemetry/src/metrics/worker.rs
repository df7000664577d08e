//! What a worker measures.

use std::time::Duration;

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter},
};

use super::{FAST_SECONDS, WAIT_SECONDS};
use crate::names::{field, metric};

/// The instruments of a worker. Clones share them.
#[derive(Clone)]
pub struct WorkerMetrics {
    lease_duration: Histogram<f64>,
    leases: Counter<u64>,
    queue_wait: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    attempts: Counter<u64>,
    attempts_unknown: Counter<u64>,
    suspects_called: Counter<u64>,
    suspects_crashed: Counter<u64>,
    suspects_put_off: Counter<u64>,
    breaker_open: Gauge<u64>,
    operation_duration: Histogram<f64>,
    token_usage: Histogram<u64>,
    time_to_first_chunk: Histogram<f64>,
    cost: Counter<f64>,
    settle_group_size: Histogram<u64>,
    settle_duration: Histogram<f64>,
    stale_writes: Counter<u64>,
    late_results: Counter<u64>,
    spool_size: Gauge<u64>,
    spool_outcomes: Gauge<u64>,
    spool_adopted: Counter<u64>,
    spool_corrupt: Counter<u64>,
    spool_failed: Counter<u64>,
    beats_failed: Counter<u64>,
    beats_late: Counter<u64>,
    incarnations_renewed: Counter<u64>,
}

/// One call that was answered or failed.
#[derive(Clone, Copy, Debug)]
pub struct CallMeasure<'a> {
    /// As [`crate::operation_of_path`] gives it.
    pub operation: &'static str,
    /// The dialect.
    pub provider: &'a str,
    /// The upstream's name in the configuration.
    pub upstream: &'a str,
    /// The model asked for.
    pub model: &'a str,
    /// From sending to the end of the answer.
    pub duration: Duration,
    /// From sending to the first chunk of a stream.
    pub time_to_first_chunk: Option<Duration>,
    /// The class of its failure.
    pub error_class: Option<&'static str>,
    /// What it used, where the provider says.
    pub tokens: Option<TokenUse>,
    /// What it cost, in USD.
    pub cost_usd: f64,
}

/// Tokens of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenUse {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnd<'a> {
    /// The line of the job.
    pub queue: &'a str,
    /// The outcome's word; `unknown` attempts are found by it.
    pub outcome: &'static str,
    /// The class of its error.
    pub error_class: Option<&'static str>,
}

impl WorkerMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, description: &'static str, bounds: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(bounds.to_vec())
                .build()
        };
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build()
        };
        // Shown from the start, as zero: the first event is then a rise that an alert can see.
        let alarm = |name: &'static str, description: &'static str| {
            let counter = counter(name, description);
            counter.add(0, &[]);
            counter
        };
        Self {
            lease_duration: seconds(metric::LEASE_DURATION, "Duration of one lease statement", &FAST_SECONDS),
            leases: counter(metric::LEASES, "Leases granted"),
            queue_wait: seconds(
                metric::QUEUE_WAIT,
                "Time that leased jobs could have run but waited",
                &WAIT_SECONDS,
            ),
            in_flight: meter
                .i64_up_down_counter(metric::IN_FLIGHT)
                .with_description("Calls under way")
                .build(),
            attempts: counter(metric::ATTEMPTS, "Attempts ended, by outcome and class of error"),
            attempts_unknown: alarm(
                metric::ATTEMPTS_UNKNOWN,
                "Attempts whose call was sent and whose answer is not known",
            ),
            suspects_called: counter(
                metric::SUSPECTS_CALLED,
                "Calls of suspects, each in a process of its own",
            ),
            suspects_crashed: alarm(metric::SUSPECTS_CRASHED, "Suspects that crashed their process: poison"),
            suspects_put_off: alarm(
                metric::SUSPECTS_PUT_OFF,
                "Suspects that went back for want of a process",
            ),
            breaker_open: meter
                .u64_gauge(metric::BREAKER_OPEN)
                .with_description("1 while an upstream fails and is not called")
                .build(),
            operation_duration: seconds(
                metric::OPERATION_DURATION,
                "GenAI operation duration",
                &[
                    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
                    300.0, 600.0,
                ],
            ),
            token_usage: token_histogram(meter),
            time_to_first_chunk: seconds(
                metric::TIME_TO_FIRST_CHUNK,
                "Time from sending to the first chunk of a stream",
                &[0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0],
            ),
            cost: meter.f64_counter(metric::COST).with_description("What calls cost, in USD").build(),
            settle_group_size: meter
                .u64_histogram(metric::SETTLE_GROUP_SIZE)
                .with_description("Attempts settled in one statement")
                .with_boundaries([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0].to_vec())
                .build(),
            settle_duration: seconds(
                metric::SETTLE_DURATION,
                "Duration of one settle statement",
                &FAST_SECONDS,
            ),
            stale_writes: alarm(
                metric::STALE_WRITES,
                "Writes refused because their lease was no longer the job's",
            ),
            late_results: alarm(metric::LATE_RESULTS, "Answers kept although their lease had ended"),
            beats_failed: alarm(metric::BEATS_FAILED, "Beats that failed"),
            beats_late: alarm(
                metric::BEATS_LATE,
                "Beats acknowledged more than two intervals after the one before",
            ),
            incarnations_renewed: alarm(
                metric::INCARNATIONS_RENEWED,
                "Lives begun because the one before had been taken for dead",
            ),
            spool_size: meter
                .u64_gauge(metric::SPOOL_SIZE)
                .with_unit("By")
                .with_description("What outcomes take that wait in the spool")
                .build(),
            spool_outcomes: meter
                .u64_gauge(metric::SPOOL_OUTCOMES)
                .with_description("Outcomes that wait in the spool")
                .build(),
            spool_adopted: counter(metric::SPOOL_ADOPTED, "Outcomes taken over from dead workers"),
            spool_corrupt: alarm(metric::SPOOL_CORRUPT, "Damaged records found in spools"),
            spool_failed: alarm(metric::SPOOL_FAILED, "Groups of outcomes that the spool did not take"),
        }
    }

    /// A lease statement that took `duration` and granted `leases`.
    pub fn leased(&self, leases: usize, duration: Duration) {
        self.lease_duration.record(duration.as_secs_f64(), &[]);
        self.leases.add(leases as u64, &[]);
    }

    /// A leased job of `queue` that could have run for `waited`.
    pub fn job_waited(&self, queue: &str, waited: Duration) {
        self.queue_wait.record(waited.as_secs_f64(), &[label(field::QUEUE, queue)]);
    }

    /// A call begins.
    pub fn call_began(&self, upstream: &str) {
        self.in_flight.add(1, &[label(field::UPSTREAM, upstream)]);
    }

    /// A call that had begun is over, whatever became of it. Every [`Self::call_began`] has one.
    pub fn call_ended(&self, upstream: &str) {
        self.in_flight.add(-1, &[label(field::UPSTREAM, upstream)]);
    }

    /// What a call took and used.
    pub fn call_measured(&self, call: &CallMeasure<'_>) {
        let mut labels = vec![
            KeyValue::new(field::GEN_AI_OPERATION_NAME, call.operation),
            label(field::GEN_AI_PROVIDER_NAME, call.provider),
            label(field::GEN_AI_REQUEST_MODEL, call.model),
            label(field::UPSTREAM, call.upstream),
        ];
        if call.cost_usd > 0.0 && call.cost_usd.is_finite() {
            self.cost.add(call.cost_usd, &labels);
        }
        if let Some(time) = call.time_to_first_chunk {
            self.time_to_first_chunk.record(time.as_secs_f64(), &labels);
        }
        if let Some(tokens) = call.tokens {
            for (kind, count) in [("input", tokens.input), ("output", tokens.output)] {
                labels.push(KeyValue::new(field::GEN_AI_TOKEN_TYPE, kind));
                self.token_usage.record(count, &labels);
                labels.pop();
            }
        }
        if let Some(class) = call.error_class {
            labels.push(KeyValue::new(field::ERROR_TYPE, class));
        }
        self.operation_duration.record(call.duration.as_secs_f64(), &labels);
    }

    /// An attempt ended.
    pub fn attempt_ended(&self, end: &AttemptEnd<'_>) {
        let mut labels = vec![label(field::QUEUE, end.queue), KeyValue::new(field::OUTCOME, end.outcome)];
        labels.extend(end.error_class.map(|class| KeyValue::new(field::ERROR_TYPE, class)));
        self.attempts.add(1, &labels);
    }

    /// A call was sent and its answer is not known.
    pub fn attempt_unknown(&self) {
        self.attempts_unknown.add(1, &[]);
    }

    /// The call of a suspect begins in a process of its own.
    pub fn suspect_called(&self) {
        self.suspects_called.add(1, &[]);
    }

    /// A suspect crashed its process, and is poison.
    pub fn suspect_crashed(&self) {
        self.suspects_crashed.add(1, &[]);
    }

    /// A suspect goes back, since there is no process for it.
    pub fn suspect_put_off(&self) {
        self.suspects_put_off.add(1, &[]);
    }

    /// Whether the breaker of an upstream is open.
    pub fn breaker_is_open(&self, upstream: &str, is_open: bool) {
        let upstream = KeyValue::new(field::UPSTREAM, upstream.to_owned());
        self.breaker_open.record(u64::from(is_open), &[upstream]);
    }

    /// A settle statement that wrote `attempts` together and took `duration`.
    pub fn settled(&self, attempts: usize, duration: Duration) {
        self.settle_group_size.record(attempts as u64, &[]);
        self.settle_duration.record(duration.as_secs_f64(), &[]);
    }

    /// A write was refused because its lease was no longer the job's.
    pub fn stale_write_refused(&self) {
        self.stale_writes.add(1, &[]);
    }

    /// An answer was kept although its lease had ended.
    pub fn late_result_kept(&self) {
        self.late_results.add(1, &[]);
    }

    /// The spool holds so much by now.
    pub fn spool_holds(&self, bytes: u64, outcomes: u64) {
        self.spool_size.record(bytes, &[]);
        self.spool_outcomes.record(outcomes, &[]);
    }

    /// Dead workers' spools were taken over, with so many outcomes and damaged records.
    pub fn spool_adopted(&self, outcomes: usize, corrupt: usize) {
        self.spool_adopted.add(outcomes as u64, &[]);
        self.spool_corrupt.add(corrupt as u64, &[]);
    }

    /// A group of outcomes could not be brought to the spool.
    pub fn spool_failed(&self) {
        self.spool_failed.add(1, &[]);
    }

    /// A beat failed.
    pub fn beat_failed(&self) {
        self.beats_failed.add(1, &[]);
    }

    /// A beat was acknowledged more than two intervals after the one before.
    pub fn beat_late(&self) {
        self.beats_late.add(1, &[]);
    }

    /// The worker had been taken for dead and goes on as a new incarnation.
    pub fn incarnation_renewed(&self) {
        self.incarnations_renewed.add(1, &[]);
    }
}

fn token_histogram(meter: &Meter) -> Histogram<u64> {
    // Powers of four, as the convention asks for.
    let bounds = std::iter::successors(Some(1.0), |bound| Some(bound * 4.0)).take(14).collect();
    meter
        .u64_histogram(metric::TOKEN_USAGE)
        .with_unit("{token}")
        .with_description("Tokens used by a call")
        .with_boundaries(bounds)
        .build()
}

fn label(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, StringValue::from(value.to_owned()))
}
