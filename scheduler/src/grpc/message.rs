//! A job as the contract writes it: the fields of REST's job object.

use sluice_domain::{JobResult, JobView};
use sluice_proto::v1;
use sluice_store::Bodies;

use super::time::timestamp;
use crate::Gates;

/// The message of a job that was read with or without the body of its result.
pub(super) fn job_message(job: JobView, gates: &Gates, bodies: Bodies) -> v1::Job {
    let deferred_by = gates.deferring(&job).map(|deferred| v1::DeferredBy {
        gate: deferred.gate.into_owned(),
        until: deferred.until.map(timestamp),
    });
    let max_attempts = job.max_attempts.unwrap_or_else(|| gates.default_max_attempts(&job.queue));
    v1::Job {
        id: job.id.to_string(),
        tenant: job.tenant.to_string(),
        queue: job.queue.to_string(),
        path: job.path.to_string(),
        model: job.model.to_string(),
        state: state(job.state).into(),
        priority: job.priority.get().into(),
        attempts: job.tries.into(),
        max_attempts: max_attempts.into(),
        generation: job.generation,
        run_at: job.run_at.map(timestamp),
        deferred_by,
        created_at: Some(timestamp(job.created_at)),
        started_at: job.started_at.map(timestamp),
        finished_at: job.finished_at.map(timestamp),
        deadline: job.deadline.map(timestamp),
        idempotency_key: job.idempotency_key.map(|key| key.to_string()),
        tags: job.tags.pairs().clone(),
        result: job.result.map(|result| result_message(result, bodies)),
        error: job.error.map(|error| v1::JobError {
            class: error.class.to_string(),
            message: error.message,
            retryable: error.is_retryable,
        }),
        trace_id: job.traceparent.and_then(|parent| parent.split('-').nth(1).map(str::to_owned)),
        hold_reason: job.hold_reason.map(|reason| reason.to_string()),
    }
}

fn state(state: sluice_domain::JobState) -> v1::JobState {
    use sluice_domain::JobState;
    match state {
        JobState::Queued => v1::JobState::Queued,
        JobState::Running => v1::JobState::Running,
        JobState::Held => v1::JobState::Held,
        JobState::Succeeded => v1::JobState::Succeeded,
        JobState::Failed => v1::JobState::Failed,
        JobState::Cancelled => v1::JobState::Cancelled,
    }
}

fn result_message(result: JobResult, bodies: Bodies) -> v1::JobResult {
    v1::JobResult {
        status_code: result.status_code.into(),
        body: (bodies == Bodies::Included).then(|| result.body.into()),
        truncated: result.is_truncated,
        assembled: result.is_assembled,
        late: result.is_late,
        cached: result.is_cached,
        request_id: result.request_id,
        usage: result.usage.map(|usage| v1::Usage {
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }),
        cost_usd: result.cost.as_usd(),
        duration_ms: result.duration_ms,
    }
}
