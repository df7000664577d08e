//! `POST /v1/jobs/{id}/release`: let a held job go on.

use axum::response::Response;
use http::StatusCode;
use sluice_store::ReleaseOutcome;

use super::answers::job_now;
use crate::{
    job_json::JobObject,
    server::{ApiError, ErrorBody, JobIdInPath, MayReplay, READ_PATIENCE, asked},
};

/// Release a held job
///
/// It is queued again with its crashes forgiven. Where its last call may have been made, it may be paid for twice.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/release",
    tag = "jobs",
    security(("api_key" = ["replay"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The queued job", body = JobObject),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 409, description = "It is not held", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn release(
    MayReplay(app): MayReplay,
    JobIdInPath(id): JobIdInPath,
) -> Result<Response, ApiError> {
    app.must_see(id).await?;
    match asked(READ_PATIENCE, app.store.job_release(&app.tenant, id)).await? {
        ReleaseOutcome::Released => {
            app.ready_bell.ring();
            job_now(&app, id, StatusCode::OK).await
        }
        ReleaseOutcome::NotHeld => {
            Err(ApiError::not_possible("the job is not held; only held jobs are released"))
        }
        ReleaseOutcome::Unknown => Err(ApiError::job_not_found()),
    }
}
