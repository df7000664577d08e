//! `POST /v1/queues/{q}/pause`: stop a line.

use axum::Json;
use serde::Serialize;
use sluice_domain::QueueName;

use crate::server::{ApiError, ErrorBody, MayAdminister, NameInPath, READ_PATIENCE, asked};

/// Whether a queue, an upstream or an account is paused now.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct PauseState {
    /// `queue`, `upstream` or `account`.
    #[schema(example = "queue")]
    pub(super) object: &'static str,
    /// Its name.
    pub(super) name: String,
    /// Whether it is paused.
    pub(super) paused: bool,
}

/// Pause a queue
///
/// Nothing more is leased from it; what runs goes on. Jobs are still accepted.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/pause",
    tag = "lines",
    security(("api_key" = ["admin"])),
    params(("queue" = String, Path, description = "The queue's name")),
    responses(
        (status = 200, description = "It is paused", body = PauseState),
        (status = 422, description = "No name of a queue", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn pause(
    MayAdminister(app): MayAdminister,
    name: NameInPath,
) -> Result<Json<PauseState>, ApiError> {
    let queue = name.parse(QueueName::new)?;
    app.must_use(&queue)?;
    asked(READ_PATIENCE, app.store.queue_pause(&app.tenant, &queue)).await?;
    app.forget_gates();
    Ok(Json(PauseState { object: "queue", name: queue.to_string(), paused: true }))
}
