//! Jobs as the wire contract writes them, and as commands show them.

use chrono::{DateTime, Utc};
use sluice_client::{Job, JobFilter as FilterMessage, JobState as StateMessage, SubmitRequest, Timestamp};
use sluice_domain::{
    ApiPath, IdempotencyKey, JobError, JobFilter, JobId, JobResult, JobState, JobView, ModelName, NanoUsd,
    NewJob, OnUnknown, Priority, QueueName, Tags, TenantName, Usage,
};
use sluice_scheduler::{DeferredBy, ShownJob};

use crate::exit::CliError;

/// A job to submit. Its id and its tenant are the server's to choose.
pub(super) fn request(job: &NewJob) -> SubmitRequest {
    let on_unknown = match job.on_unknown {
        OnUnknown::Retry => sluice_client::OnUnknown::Retry,
        OnUnknown::Hold => sluice_client::OnUnknown::Hold,
    };
    SubmitRequest {
        body: job.body.clone().into(),
        path: Some(job.path.to_string()),
        model: Some(job.model.to_string()),
        queue: Some(job.queue.to_string()),
        priority: Some(job.priority.get().into()),
        idempotency_key: job.idempotency_key.as_ref().map(ToString::to_string),
        run_at: job.run_at.map(timestamp),
        deadline: job.deadline.map(timestamp),
        max_attempts: job.max_attempts.map(Into::into),
        on_unknown: on_unknown.into(),
        tags: job.tags.pairs().clone(),
        webhook: job.webhook.as_ref().map(|url| url.as_str().to_owned()),
    }
}

/// Which jobs are meant.
pub(super) fn filter(filter: &JobFilter) -> FilterMessage {
    FilterMessage {
        state: filter.state.map_or(StateMessage::Unspecified, state_message).into(),
        queue: filter.queue.as_ref().map(ToString::to_string),
        model: filter.model.as_ref().map(ToString::to_string),
        error_class: filter.error_class.map(|class| class.to_string()),
        tags: filter.tags.pairs().clone(),
        created_after: filter.created_after.map(timestamp),
        created_before: filter.created_before.map(timestamp),
    }
}

const fn state_message(state: JobState) -> StateMessage {
    match state {
        JobState::Queued => StateMessage::Queued,
        JobState::Running => StateMessage::Running,
        JobState::Held => StateMessage::Held,
        JobState::Succeeded => StateMessage::Succeeded,
        JobState::Failed => StateMessage::Failed,
        JobState::Cancelled => StateMessage::Cancelled,
    }
}

/// A job as commands show it.
pub(super) fn shown(job: Job) -> Result<ShownJob, CliError> {
    let max_attempts = narrow(job.max_attempts)?;
    let deferred_by = job
        .deferred_by
        .clone()
        .map(|deferred| {
            Ok::<_, CliError>(DeferredBy { gate: deferred.gate.into(), until: time(deferred.until)? })
        })
        .transpose()?;
    Ok(ShownJob { job: view(job)?, max_attempts, deferred_by })
}

fn view(job: Job) -> Result<JobView, CliError> {
    let state = state(job.state())?;
    let error = job.error.map(|error| {
        let class = error.class.parse().map_err(|_| unknown("class of errors", &error.class))?;
        Ok::<_, CliError>(JobError { class, message: error.message, is_retryable: error.retryable })
    });
    Ok(JobView {
        id: id(&job.id)?,
        tenant: TenantName::from_stored(job.tenant),
        queue: QueueName::from_stored(job.queue),
        path: ApiPath::from_stored(job.path),
        model: ModelName::from_stored(job.model),
        state,
        hold_reason: job.hold_reason.and_then(|reason| reason.parse().ok()),
        priority: Priority::new(job.priority.into())
            .map_err(|_| unknown("priority", &job.priority.to_string()))?,
        tries: narrow(job.attempts)?,
        // Nothing shows them.
        crashes: 0,
        on_unknown: OnUnknown::default(),
        max_attempts: Some(narrow(job.max_attempts)?),
        generation: job.generation,
        run_at: time(job.run_at)?,
        created_at: time(job.created_at)?.ok_or_else(|| unknown("job", "without its time"))?,
        started_at: time(job.started_at)?,
        finished_at: time(job.finished_at)?,
        deadline: time(job.deadline)?,
        idempotency_key: job.idempotency_key.map(IdempotencyKey::from_stored),
        tags: Tags::from_stored(job.tags),
        result: job.result.map(result).transpose()?,
        error: error.transpose()?,
        // Of a traceparent (version, trace, parent, flags) only the trace is shown.
        traceparent: job.trace_id.map(|trace| format!("00-{trace}-0000000000000000-00")),
    })
}

fn result(result: sluice_client::JobResult) -> Result<JobResult, CliError> {
    Ok(JobResult {
        status_code: narrow(result.status_code)?,
        body: result.body.unwrap_or_default().into(),
        is_truncated: result.truncated,
        is_assembled: result.assembled,
        is_late: result.late,
        is_cached: result.cached,
        request_id: result.request_id,
        usage: result.usage.map(|usage| Usage {
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }),
        cost: NanoUsd::from_usd(result.cost_usd).unwrap_or_default(),
        duration_ms: result.duration_ms,
    })
}

fn state(state: StateMessage) -> Result<JobState, CliError> {
    let known = JobState::ALL.iter().copied().find(|known| state_message(*known) == state);
    known.ok_or_else(|| unknown("state", state.as_str_name()))
}

/// A job's id.
pub(super) fn id(text: &str) -> Result<JobId, CliError> {
    text.parse().map_err(|_| unknown("id", text))
}

fn narrow(number: u32) -> Result<u16, CliError> {
    u16::try_from(number).map_err(|_| unknown("number", &number.to_string()))
}

fn time(time: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, CliError> {
    let Some(time) = time else { return Ok(None) };
    let read = u32::try_from(time.nanos).ok().and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
    read.map(Some).ok_or_else(|| unknown("time", &time.seconds.to_string()))
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

fn unknown(what: &str, word: &str) -> CliError {
    CliError::unreachable(format!(
        "failed to understand the server's answer: it holds the {what} {word:?}; use the server's version of sluice"
    ))
}
