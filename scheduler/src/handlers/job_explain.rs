//! `GET /v1/jobs/{id}/explain`: why a job is not running.

use axum::Json;

use crate::{
    Explanation,
    server::{ApiError, ErrorBody, JobIdInPath, MayRead, SCAN_PATIENCE, asked},
};

/// Why a job is not running
///
/// Which gate it waits for, what opens it, and until when; how many jobs go first; whether any worker is there.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/explain",
    tag = "jobs",
    security(("api_key" = ["read"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The answer", body = Explanation, example = json!({
            "id": "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "object": "explanation", "state": "queued",
            "summary": "It is queued and waits:",
            "blockers": [{"kind": "queue_paused", "until": null, "message":
                "Queue \"default\" is paused since 2026-10-01T12:00:00.000000Z. Resume it with: sluice resume default"}],
            "jobs_before": 17, "workers_alive": 2, "worker": null})),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn explain(
    MayRead(app): MayRead,
    JobIdInPath(id): JobIdInPath,
) -> Result<Json<Explanation>, ApiError> {
    app.must_see(id).await?;
    let explaining = crate::explain(&app.store, app.fixed_configuration(), &app.tenant, id);
    let explanation = asked(SCAN_PATIENCE, explaining).await?;
    explanation.map(Json).ok_or_else(ApiError::job_not_found)
}
