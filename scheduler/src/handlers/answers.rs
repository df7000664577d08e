//! Forms of answers that several endpoints share.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use sluice_domain::{JobId, JobView};
use sluice_store::Bodies;
use utoipa::ToSchema;

use crate::{
    BodyForm, job_json,
    server::{ApiError, App, READ_PATIENCE, asked},
};

/// A list of which there is only one page.
#[derive(Serialize, ToSchema)]
pub(crate) struct WholeList<T> {
    /// Always `list`.
    object: &'static str,
    /// What is listed.
    data: Vec<T>,
}

impl<T> WholeList<T> {
    pub(super) fn of(data: Vec<T>) -> Self {
        Self { object: "list", data }
    }
}

/// Bytes that are JSON already.
pub(super) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
}

/// A job that the caller may see, or 404.
pub(crate) async fn job(app: &App, id: JobId, bodies: Bodies) -> Result<JobView, ApiError> {
    let job = asked(READ_PATIENCE, app.store.job(&app.tenant, id, bodies)).await?;
    job.filter(|job| app.may_see(job)).ok_or_else(ApiError::job_not_found)
}

/// Answers with the job as it stands now.
pub(super) async fn job_now(app: &App, id: JobId, status: StatusCode) -> Result<Response, ApiError> {
    let job = job(app, id, Bodies::Included).await?;
    Ok(json_bytes(status, job_json(&job, &*app.gates().await?, BodyForm::Verbatim)))
}
