//! `GET /v1/jobs/{id}`: one job, at once or when it has ended.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use sluice_domain::JobId;
use sluice_store::Bodies;

use super::answers::{job, job_now};
use crate::{
    InvalidInput,
    job_json::JobObject,
    server::{ApiError, App, ErrorBody, JobIdInPath, MayRead, QueryPairs},
};

/// The longest wait of one request; longer ones count as this, and the client asks again.
pub(crate) const MAX_WAIT: Duration = Duration::from_mins(1);

/// Read a job
///
/// With `wait` the answer comes as soon as the job ends, or with the job as it then stands when the time is over.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    security(("api_key" = ["read"])),
    params(
        ("id" = uuid::Uuid, Path, description = "The job"),
        ("wait" = Option<String>, Query, description = "How long to wait for its end, such as `30s`; more than `60s` counts as `60s`"),
    ),
    responses(
        (status = 200, description = "The job, with its result when there is one", body = JobObject, example = json!({
            "id": "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "object": "job", "tenant": "default", "queue": "default",
            "path": "/v1/chat/completions", "model": "deepseek-flash", "state": "succeeded", "priority": 4,
            "attempts": 1, "max_attempts": 3, "generation": 1, "run_at": null, "deferred_by": null,
            "created_at": "2026-10-01T12:00:00.000000Z", "started_at": "2026-10-01T12:00:00.010000Z",
            "finished_at": "2026-10-01T12:00:01.500000Z", "deadline": null, "idempotency_key": "order-17",
            "tags": {"team": "search"}, "error": null, "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "result": {"status_code": 200, "body": {"object": "chat.completion", "choices": []}, "truncated": false,
                "assembled": false, "late": false, "cached": false, "request_id": "req-1",
                "usage": {"input_tokens": 9, "cached_input_tokens": 0, "output_tokens": 12, "reasoning_tokens": 0},
                "cost_usd": 0.0125, "duration_ms": 1480}})),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 422, description = "A parameter can't be used", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn get(
    MayRead(app): MayRead,
    JobIdInPath(id): JobIdInPath,
    mut query: QueryPairs,
) -> Result<Response, ApiError> {
    let wait = query.take("wait").map(|text| parse_wait(&text)).transpose()?;
    if let Some((name, _)) = query.0.first() {
        let message = format!("unknown parameter {name:?}; known is wait");
        return Err(InvalidInput::at(name.as_str(), "unknown_parameter", message).into());
    }
    if let Some(wait) = wait {
        wait_for_end(&app, id, wait).await?;
    }
    job_now(&app, id, StatusCode::OK).await
}

/// Returns when the job has ended, the time is over or the server stops. Holds no database connection meanwhile.
pub(crate) async fn wait_for_end(app: &App, id: JobId, wait: Duration) -> Result<(), ApiError> {
    // Registered before the look: an end in between is told to the receiver.
    let mut ended = app.hub.end_of(id);
    if job(app, id, Bodies::LeftOut).await?.state.is_terminal() {
        return Ok(());
    }
    tokio::select! {
        _ = ended.wait_for(|ended| *ended) => {}
        () = tokio::time::sleep(wait) => {}
        () = app.stopping.cancelled() => {}
    }
    // The key may have been revoked meanwhile.
    app.still_admitted().await
}

fn parse_wait(text: &str) -> Result<Duration, InvalidInput> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    let wait = seconds.or_else(|| humantime::parse_duration(text).ok());
    let wait = wait.ok_or_else(|| InvalidInput::value("wait", "wait must be a duration such as 30s"))?;
    Ok(wait.min(MAX_WAIT))
}
