//! `GET /v1/jobs`: a page of jobs, newest first.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use sluice_domain::{JobFilter, JobId, JobView, PageCursor};
use sluice_store::Bodies;

use super::answers::json_bytes;
use crate::{
    BodyForm, InvalidInput, filter_from_pairs,
    job_json::JobObject,
    server::{ApiError, App, ErrorBody, MayRead, QueryPairs, SCAN_PATIENCE, asked},
};

pub(crate) const DEFAULT_LIMIT: u32 = 20;
pub(crate) const MAX_LIMIT: u32 = 500;

/// A page of jobs.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = JobList)]
pub(crate) struct JobPage<'a> {
    /// Always `list`.
    object: &'static str,
    /// The jobs, newest first, without the bodies of their results.
    data: Vec<JobObject<'a>>,
    /// The first job of the page.
    first_id: Option<String>,
    /// The last job of the page: `after` for the next one.
    last_id: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

/// List jobs
///
/// Newest first. The next page begins `after` the last id of this one; jobs that are submitted meanwhile don't shift it.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    security(("api_key" = ["read"])),
    params(
        ("state" = Option<String>, Query, description = "`queued`, `running`, `held`, `succeeded`, `failed`, `cancelled`"),
        ("queue" = Option<String>, Query, description = "Only of this queue"),
        ("model" = Option<String>, Query, description = "Only asking for this model"),
        ("error_class" = Option<String>, Query, description = "Only with this class of error"),
        ("tag.{key}" = Option<String>, Query, description = "Only with this tag; several must all be there"),
        ("created_after" = Option<String>, Query, description = "Submitted at or after this RFC 3339 time"),
        ("created_before" = Option<String>, Query, description = "Submitted before this RFC 3339 time"),
        ("limit" = Option<u32>, Query, description = "Jobs a page, 1 to 500; 20 by default"),
        ("after" = Option<uuid::Uuid>, Query, description = "The last id of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = JobPage),
        (status = 422, description = "A parameter can't be used", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(MayRead(app): MayRead, mut query: QueryPairs) -> Result<Response, ApiError> {
    let limit = query.take("limit").map_or(Ok(DEFAULT_LIMIT), |text| parse_limit(&text))?;
    let after = query.take("after").map(|text| parse_after(&text)).transpose()?;
    let filter = filter_from_pairs(query.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let Page { jobs, has_more } = page_of(&app, &filter, limit, after).await?;
    let gates = app.gates().await?;
    let ids = || jobs.iter().map(|job| job.id.to_string());
    let page = JobPage {
        object: "list",
        first_id: ids().next(),
        last_id: ids().next_back(),
        data: jobs.iter().map(|job| JobObject::new(job, &gates, BodyForm::LeftOut)).collect(),
        has_more,
    };
    // The page is made of strings, numbers and raw JSON.
    Ok(json_bytes(StatusCode::OK, serde_json::to_vec(&page).expect("a page is serialisable")))
}

/// Jobs that were read together, without the bodies of their results.
pub(crate) struct Page {
    pub(crate) jobs: Vec<JobView>,
    pub(crate) has_more: bool,
}

/// Reads the jobs that a filter means, newest first, after a cursor.
pub(crate) async fn page_of(
    app: &App,
    filter: &JobFilter,
    limit: u32,
    after: Option<PageCursor>,
) -> Result<Page, ApiError> {
    let filter = app.narrowed(filter.clone())?;
    let matching = app.store.job_ids_matching(&app.tenant, &filter, after, limit + 1);
    let mut ids = asked(SCAN_PATIENCE, matching).await?;
    let has_more = ids.len() > limit as usize;
    ids.truncate(limit as usize);
    let jobs = asked(SCAN_PATIENCE, app.store.jobs_by_id(&ids, Bodies::LeftOut)).await?;
    Ok(Page { jobs, has_more })
}

fn parse_limit(text: &str) -> Result<u32, InvalidInput> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| {
        InvalidInput::value("limit", format!("limit must be a whole number from 1 to {MAX_LIMIT}"))
    })
}

fn parse_after(text: &str) -> Result<JobId, InvalidInput> {
    text.parse().map_err(|_| InvalidInput::value("after", "after must be a job's id"))
}
