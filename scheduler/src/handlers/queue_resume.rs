//! `POST /v1/queues/{q}/resume`: let a line go on.

use axum::Json;
use sluice_domain::QueueName;

use super::queue_pause::PauseState;
use crate::server::{ApiError, ErrorBody, MayAdminister, NameInPath, READ_PATIENCE, asked};

/// Resume a queue
///
/// Resuming a queue that is not paused changes nothing.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/resume",
    tag = "lines",
    security(("api_key" = ["admin"])),
    params(("queue" = String, Path, description = "The queue's name")),
    responses(
        (status = 200, description = "It is not paused", body = PauseState),
        (status = 422, description = "No name of a queue", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn resume(
    MayAdminister(app): MayAdminister,
    name: NameInPath,
) -> Result<Json<PauseState>, ApiError> {
    let queue = name.parse(QueueName::new)?;
    app.must_use(&queue)?;
    if asked(READ_PATIENCE, app.store.queue_resume(&app.tenant, &queue)).await? {
        app.ready_bell.ring();
    }
    app.forget_gates();
    Ok(Json(PauseState { object: "queue", name: queue.to_string(), paused: false }))
}
