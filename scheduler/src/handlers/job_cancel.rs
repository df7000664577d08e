//! `POST /v1/jobs/{id}/cancel`: end a job.

use axum::response::Response;
use http::StatusCode;
use sluice_domain::JobId;
use sluice_store::CancelOutcome;

use super::answers::job_now;
use crate::{
    job_json::JobObject,
    server::{ApiError, App, ErrorBody, JobIdInPath, MayCancel, READ_PATIENCE, asked},
};

/// Cancel a job
///
/// A running job ends at once, and its worker lets go of the call. Cancelling twice answers as the first time.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    tag = "jobs",
    security(("api_key" = ["cancel"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The cancelled job", body = JobObject),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 409, description = "It has ended otherwise", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn cancel(
    MayCancel(app): MayCancel,
    JobIdInPath(id): JobIdInPath,
) -> Result<Response, ApiError> {
    cancel_job(&app, id).await?;
    job_now(&app, id, StatusCode::OK).await
}

/// Cancels a job that the caller may see.
pub(crate) async fn cancel_job(app: &App, id: JobId) -> Result<(), ApiError> {
    app.must_see(id).await?;
    match asked(READ_PATIENCE, app.store.job_cancel(&app.tenant, id)).await? {
        CancelOutcome::Cancelled => {
            app.cancelled_bell.ring();
            app.ended_bell.ring();
            Ok(())
        }
        CancelOutcome::AlreadyCancelled => Ok(()),
        CancelOutcome::AlreadyEnded(state) => {
            Err(ApiError::not_possible(format!("the job has {state} and can't be cancelled any more")))
        }
        CancelOutcome::Unknown => Err(ApiError::job_not_found()),
        CancelOutcome::Busy => {
            Err(ApiError::not_possible("the job moves too fast to be caught; try again").retry_after(1))
        }
    }
}
