//! `POST /v1/jobs/{id}/replay`: start an ended job again.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use sluice_domain::JobId;
use sluice_store::ReplayOutcome;

use super::answers::job_now;
use crate::{
    job_json::JobObject,
    server::{ApiError, App, ErrorBody, JobIdInPath, MayReplay, READ_PATIENCE, asked},
};

/// Replay a job
///
/// An ended job is queued again as its next generation, with its tries and errors forgotten. It is called and paid for
/// again, also if it succeeded.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/replay",
    tag = "jobs",
    security(("api_key" = ["replay"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The queued job", body = JobObject),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 409, description = "It has not ended", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn replay(
    MayReplay(app): MayReplay,
    JobIdInPath(id): JobIdInPath,
) -> Result<Response, ApiError> {
    replay_job(&app, id).await?;
    job_now(&app, id, StatusCode::OK).await
}

/// Starts an ended job again that the caller may see.
pub(crate) async fn replay_job(app: &App, id: JobId) -> Result<(), ApiError> {
    app.must_see(id).await?;
    let replaying = app.store.job_replay_if_ended(&app.tenant, id, Duration::ZERO);
    match asked(READ_PATIENCE, replaying).await? {
        ReplayOutcome::Queued => {
            app.ready_bell.ring();
            Ok(())
        }
        ReplayOutcome::NotEnded => {
            Err(ApiError::not_possible("the job has not ended; only ended jobs are replayed"))
        }
        ReplayOutcome::Unknown => Err(ApiError::job_not_found()),
    }
}
