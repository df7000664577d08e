//! Logs, traces and metrics: their set-up, and the names of spans, metrics and fields as constants.
//!
//! Observing must never slow what is observed. Whatever leaves the process does so behind a bounded queue with a
//! thread of its own: log lines ([`LogSink`]), spans and metrics. A full queue drops and counts; nobody waits.
//!
//! Not here: what is worth logging or measuring (each role decides that), and prompts or answers, which are
//! captured nowhere.

mod environment;
mod export;
mod json_lines;
mod log_sink;
mod metrics;
pub mod names;
mod runtime;
mod setup;
mod span_queue;
mod spans;
mod traceparent;

pub use environment::LogFormat;
pub use log_sink::LogSink;
pub use metrics::{
    AttemptEnd, CallMeasure, ClosedGate, Death, ExpiryMetrics, GateMetrics, GateStanding, HttpMeasure,
    LeaseStanding, LimitStanding, MetricsRegistry, QueueDepth, SchedulerMetrics, TokenUse, WorkerMetrics,
};
pub use setup::{TelemetryError, TelemetryGuard, TelemetryOptions, init};
pub use spans::{
    AttemptFields, CallAnswer, CallFields, ServerFields, SubmitFields, attempt_span, call_span,
    operation_of_path, record_attempt_end, record_call_answer, record_call_error, record_server_status,
    record_submitted_job, server_span, submit_span,
};
pub use traceparent::{
    continue_trace, current_trace_id, current_traceparent, is_traceparent, link_to, traceparent_of,
};

#[cfg(test)]
mod tests;
