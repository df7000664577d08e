//! `GET /v1/queues`: the lines.

use axum::Json;
use serde::Serialize;
use sluice_store::QueueDepth;

use super::answers::WholeList;
use crate::{
    job_json::rfc3339,
    server::{ApiError, ErrorBody, MayRead, SCAN_PATIENCE, asked},
};

/// A line with what stands in it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueObject {
    /// Its name.
    name: String,
    /// Always `queue`.
    object: &'static str,
    /// Jobs that wait: those that could run now and those that wait for a time.
    depth: u64,
    /// Jobs that could run now.
    ready: u64,
    /// Jobs that wait for a time.
    scheduled: u64,
    /// Jobs that run.
    running: u64,
    /// Jobs that wait for a person.
    held: u64,
    /// How long the oldest job that could run now has waited, in seconds.
    oldest_age_s: Option<f64>,
    /// Whether it is paused.
    paused: bool,
    /// Since when.
    paused_at: Option<String>,
}

impl From<QueueDepth> for QueueObject {
    fn from(queue: QueueDepth) -> Self {
        Self {
            name: queue.name.to_string(),
            object: "queue",
            depth: queue.ready + queue.scheduled,
            ready: queue.ready,
            scheduled: queue.scheduled,
            running: queue.running,
            held: queue.held,
            oldest_age_s: queue.oldest_age.map(|age| age.as_secs_f64()),
            paused: queue.paused_at.is_some(),
            paused_at: queue.paused_at.map(rfc3339),
        }
    }
}

/// List queues
///
/// Those that hold jobs which have not ended, or are paused. Any other name is a queue too, and empty.
#[utoipa::path(
    get,
    path = "/v1/queues",
    tag = "lines",
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The queues, by name", body = WholeList<QueueObject>),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(MayRead(app): MayRead) -> Result<Json<WholeList<QueueObject>>, ApiError> {
    let depths = asked(SCAN_PATIENCE, app.store.queue_depths(Some(&app.tenant))).await?;
    let allowed = depths.into_iter().filter(|queue| app.caller.rights.allow_queue(&queue.name));
    Ok(Json(WholeList::of(allowed.map(QueueObject::from).collect())))
}
