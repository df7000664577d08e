//! `GET /v1/workers`: who works.

use axum::Json;
use sluice_store::WorkerRow;

use super::answers::WholeList;
use crate::server::{ApiError, ErrorBody, MayOperate, READ_PATIENCE, asked};

/// List workers
///
/// The worker processes that are not known to be dead, newest first, with their last beats.
#[utoipa::path(
    get,
    path = "/v1/workers",
    tag = "lines",
    security(("api_key" = ["admin"])),
    responses(
        (status = 200, description = "The workers", body = WholeList<serde_json::Value>, example = json!({
            "object": "list", "data": [{
                "id": "0199a1b2-0000-7e5f-8a9b-0c1d2e3f4a5b", "object": "worker", "worker": "worker-1",
                "host": "node-3", "pid": 4711, "version": "0.1.0", "started_at": "2026-10-01T11:00:00Z",
                "beat_at": "2026-10-01T12:00:00Z", "beat_age_ms": 1200, "asleep": false, "draining": false,
                "in_flight": 17}]})),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    MayOperate(app): MayOperate,
) -> Result<Json<WholeList<serde_json::Value>>, ApiError> {
    let workers = asked(READ_PATIENCE, app.store.workers()).await?;
    Ok(Json(WholeList::of(workers.iter().map(WorkerRow::to_json).collect())))
}
