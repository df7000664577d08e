//! The one call of an attempt, bounded by the job's deadline and observed: span, metrics.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use sluice_domain::{CallId, ErrorClass};
use sluice_policy::retry::Ending;
use sluice_provider::{CallReport, CallRequest, Client, MayBegin, Waited};
use sluice_telemetry::{
    CallAnswer, CallFields, CallMeasure, TokenUse, call_span, operation_of_path, record_call_answer,
    record_call_error, traceparent_of,
};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, Span};

use crate::{
    core::Core,
    lease::{Lease, StopReason},
    one_call,
    routing::Target,
    streams::StreamEnd,
    suspect::{Crash, InChild, Place},
};

/// What came of a call.
pub(crate) enum Made {
    /// It ended, and this was seen of it.
    Report(Box<CallReport>),
    /// The process that made it ended before it.
    Crashed(Box<Crash>),
    /// It was not begun: it needs a process of its own, and there are too many, or the system gives none.
    NoRoom,
}

/// Makes the call, of a suspect in a child process.
pub(crate) async fn make(core: &Arc<Core>, lease: &Lease, target: &Target, attempt: &Span) -> Made {
    let room = match core.suspects.place(&lease.job) {
        Place::Here => None,
        Place::Child(room) => Some(room),
        Place::NoRoom => {
            core.metrics.suspect_put_off();
            return Made::NoRoom;
        }
    };
    let is_suspect = room.is_some();
    if is_suspect {
        core.metrics.suspect_called();
    }
    let body = lease.body.clone();
    // An attempt makes one call at most, which can have its lease's id: then it is stored once.
    let call_id = CallId::from_uuid(lease.job.lease_id.as_uuid());
    // What is foreign about a suspect is not read in this process, not even for a span.
    let span = begin_span(attempt, lease, target, call_id, if is_suspect { &[] } else { &body });
    let request = CallRequest {
        call_id,
        path: lease.job.path.clone(),
        model: target.model.clone(),
        body,
        traceparent: traceparent_of(&span).or_else(|| lease.job.traceparent.clone()),
        usual_duration: target.upstream.pace.usual(&target.model),
        may_begin: may_begin(core, lease),
    };
    let upstream = &target.upstream;
    core.metrics.call_began(&upstream.name);
    core.called.note(lease.job.lease_id);
    let began = Instant::now();
    let stop = lease.stop.token();
    let made = async {
        match room {
            None => InChild::Report(Box::new(here(core, lease, &upstream.client, request).await)),
            Some(room) => room.call(target, request, stop).await,
        }
    };
    let made = until_deadline(lease, made).instrument(span.clone()).await;
    core.metrics.call_ended(&upstream.name);
    match made {
        InChild::Report(report) => {
            measure(core, lease, target, &report, began.elapsed());
            end_span(&span, &report, is_suspect);
            Made::Report(report)
        }
        InChild::Crashed(crash) => {
            core.metrics.suspect_crashed();
            tracing::error!(
                parent: &span,
                job.id = %lease.job.job_id, upstream = upstream.name, how = crash.how,
                place = crash.panicked_at, "a job that had a process to itself crashed it, and is held"
            );
            record_call_error(&span, ErrorClass::Poison.as_str());
            Made::Crashed(crash)
        }
        InChild::NotStarted(error) => {
            core.metrics.suspect_put_off();
            tracing::error!(
                parent: &span,
                job.id = %lease.job.job_id, %error,
                "no process could be started for a job that needs one to itself; it is tried again"
            );
            Made::NoRoom
        }
    }
}

/// A call may wait for a token or a connection. Meanwhile its lease can end and what it holds of limits grow old; connections
/// are waited for within the margin of the limits.
fn may_begin(core: &Arc<Core>, lease: &Lease) -> MayBegin {
    let (core, incarnation, allowance) = (Arc::clone(core), lease.incarnation_id, lease.allowance.clone());
    MayBegin::if_so(move |waited| {
        core.incarnation.may_start_for(incarnation) && (waited == Waited::Connecting || allowance.is_fresh())
    })
}

/// Makes the call in this process. Whoever waits for its tokens gets them as they come.
async fn here(core: &Core, lease: &Lease, client: &Client, request: CallRequest) -> CallReport {
    let stream = core.streams.of(&lease.job);
    let report = one_call::make(client, request, lease.stop.token(), Some(stream.tap())).await;
    let is_result = report.ending() == Ending::Succeeded;
    stream.over(if is_result { StreamEnd::Whole } else { StreamEnd::Broken }).await;
    report
}

/// Lets go of the call when the job's deadline passes, and waits for its last word.
async fn until_deadline<T>(lease: &Lease, call: impl Future<Output = T>) -> T {
    let Some(deadline) = lease.deadline() else { return call.await };
    let mut call = std::pin::pin!(call);
    tokio::select! {
        made = &mut call => made,
        () = sleep_until(deadline) => {
            lease.stop.now(StopReason::Deadline);
            call.await
        }
    }
}

fn measure(core: &Core, lease: &Lease, target: &Target, report: &CallReport, elapsed: Duration) {
    let answer = report.answer();
    if let Some(duration) = report.duration.filter(|_| report.ending() == Ending::Succeeded) {
        target.upstream.pace.note(&target.model, duration);
    }
    let tokens = answer.and_then(|answer| answer.usage);
    core.metrics.call_measured(&CallMeasure {
        operation: operation_of_path(lease.job.path.as_str()),
        provider: target.upstream.provider,
        upstream: &target.upstream.name,
        model: target.model.as_str(),
        duration: report.duration.unwrap_or(elapsed),
        time_to_first_chunk: answer.filter(|a| a.is_assembled).and(report.time_to_first_byte),
        error_class: report.error().map(|(class, _)| class.as_str()),
        tokens: tokens.map(|used| TokenUse { input: used.input_tokens, output: used.output_tokens }),
        cost_usd: report.cost().unwrap_or_default().as_usd(),
    });
}

/// What a span tells of a request.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RequestParameters {
    max_tokens: Option<serde_json::Value>,
    temperature: Option<serde_json::Value>,
    top_p: Option<serde_json::Value>,
    seed: Option<serde_json::Value>,
    stream: Option<serde_json::Value>,
}

fn begin_span(attempt: &Span, lease: &Lease, target: &Target, call_id: CallId, body: &[u8]) -> Span {
    if attempt.is_disabled() {
        return Span::none();
    }
    let asked: RequestParameters = serde_json::from_slice(body).unwrap_or_default();
    let number = |value: Option<serde_json::Value>| value.and_then(|value| value.as_f64());
    call_span(
        attempt,
        &CallFields {
            call_id: &call_id,
            path: lease.job.path.as_str(),
            provider: target.upstream.provider,
            upstream: &target.upstream.name,
            model: target.model.as_str(),
            server_address: &target.upstream.server_address,
            server_port: target.upstream.server_port,
            max_tokens: asked.max_tokens.and_then(|value| value.as_u64()),
            temperature: number(asked.temperature),
            top_p: number(asked.top_p),
            seed: asked.seed.and_then(|value| value.as_i64()),
            is_streamed: asked.stream.and_then(|value| value.as_bool()).unwrap_or(false),
        },
    )
}

/// What a span tells of an answer's choices.
#[derive(Deserialize)]
struct Choices {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
}

fn end_span(span: &Span, report: &CallReport, is_suspect: bool) {
    if span.is_disabled() {
        return;
    }
    if let Some(answer) = report.answer() {
        // What is foreign about a suspect is not read in this process.
        let body = if is_suspect { b"".as_slice() } else { &answer.body };
        let choices = serde_json::from_slice::<Choices>(body).map(|body| body.choices).unwrap_or_default();
        let reasons: Vec<_> = choices.iter().filter_map(|choice| choice.finish_reason.as_deref()).collect();
        let usage = answer.usage;
        record_call_answer(
            span,
            &CallAnswer {
                status_code: Some(answer.status_code),
                response_id: report.upstream.request_id.as_deref(),
                response_model: report.upstream.answered_model.as_deref(),
                finish_reasons: &reasons,
                input_tokens: usage.map(|used| used.input_tokens),
                cached_input_tokens: usage.map(|used| used.cached_input_tokens),
                output_tokens: usage.map(|used| used.output_tokens),
                reasoning_tokens: usage.map(|used| used.reasoning_tokens),
                time_to_first_chunk: report.time_to_first_byte.filter(|_| answer.is_assembled),
                cost_usd: report.cost().map(sluice_domain::NanoUsd::as_usd),
            },
        );
    }
    if let Some((class, _)) = report.error() {
        record_call_error(span, class.as_str());
    }
}
