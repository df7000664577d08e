//! `GET /v1/jobs/{id}/result`: the exact bytes of a result.

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue,
    header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use sluice_domain::JobState;
use sluice_store::Bodies;

use super::answers::job;
use crate::{
    job_json::as_json,
    server::{ApiError, ErrorBody, JobIdInPath, MayRead},
};

/// The exact bytes of a result
///
/// As the provider sent them, after decompression. `application/json` if that is what they are, else
/// `application/octet-stream`; the provider's HTTP status stands in `Sluice-Status-Code`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/result",
    tag = "jobs",
    security(("api_key" = ["read"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The bytes", content(
            (serde_json::Value = "application/json", example = json!({"object": "chat.completion", "choices": []})),
            (String = "application/octet-stream"),
        )),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 409, description = "The job has no result (yet)", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn result(
    MayRead(app): MayRead,
    JobIdInPath(id): JobIdInPath,
) -> Result<Response, ApiError> {
    let job = job(&app, id, Bodies::Included).await?;
    let Some(result) = job.result else { return Err(no_result(job.state)) };
    let kind = if as_json(&result.body).is_some() { "application/json" } else { "application/octet-stream" };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        // A provider's bytes are never to be taken for a page of ours.
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let status = [("sluice-status-code", HeaderValue::from(result.status_code))];
    Ok((headers, status, result.body).into_response())
}

fn no_result(state: JobState) -> ApiError {
    let message = if state.is_terminal() {
        format!("the job {state} without an answer")
    } else {
        format!("the job is {state} and has no result yet")
    };
    ApiError::not_possible(message)
}
