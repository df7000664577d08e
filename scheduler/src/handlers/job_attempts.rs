//! `GET /v1/jobs/{id}/attempts`: the ledger of one job.

use axum::Json;

use super::answers::WholeList;
use crate::{
    attempt_json,
    server::{ApiError, ErrorBody, JobIdInPath, MayRead, READ_PATIENCE, asked},
};

/// The attempts of a job
///
/// Oldest first: every lease of the job, over all generations, with what became of it and what it cost.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/attempts",
    tag = "jobs",
    security(("api_key" = ["read"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The attempts", body = WholeList<serde_json::Value>, example = json!({
            "object": "list", "data": [{
                "object": "attempt", "job_id": "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
                "lease_id": "5f1c2d3e-4b5a-4c6d-8e7f-9a0b1c2d3e4f", "generation": 1, "lease_no": 1,
                "incarnation_id": "0199a1b2-0000-7e5f-8a9b-0c1d2e3f4a5b",
                "begun_at": "2026-10-01T12:00:00.010000Z", "ended_at": "2026-10-01T12:00:01.500000Z",
                "outcome": "succeeded", "error_class": null, "error_message": null, "status_code": 200,
                "call_id": "6a7b8c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d", "upstream": "deepseek-us",
                "upstream_model": "deepseek-flash", "answered_model": "deepseek-flash", "request_id": "req-1",
                "usage": {"input_tokens": 9, "cached_input_tokens": 0, "output_tokens": 12, "reasoning_tokens": 0},
                "cost_usd": 0.0125, "call_duration_ms": 1480, "late": false}]})),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn attempts(
    MayRead(app): MayRead,
    JobIdInPath(id): JobIdInPath,
) -> Result<Json<WholeList<serde_json::Value>>, ApiError> {
    app.must_see(id).await?;
    let attempts = asked(READ_PATIENCE, app.store.attempts(&app.tenant, id)).await?;
    let attempts = attempts.ok_or_else(ApiError::job_not_found)?;
    Ok(Json(WholeList::of(attempts.iter().map(attempt_json).collect())))
}
