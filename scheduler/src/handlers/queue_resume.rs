//! `POST /v1/queues/{q}/resume`: let a line go on.

use axum::{Json, extract::State};
use sluice_domain::QueueName;

use super::queue_pause::PauseState;
use crate::server::{ApiError, App, ErrorBody, NameInPath, READ_PATIENCE, asked};

/// Resume a queue
///
/// Resuming a queue that is not paused changes nothing.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/resume",
    tag = "lines",
    params(("queue" = String, Path, description = "The queue's name")),
    responses(
        (status = 200, description = "It is not paused", body = PauseState),
        (status = 422, description = "No name of a queue", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn resume(State(app): State<App>, name: NameInPath) -> Result<Json<PauseState>, ApiError> {
    let queue = name.parse(QueueName::new)?;
    if asked(READ_PATIENCE, app.store.queue_resume(&app.tenant, &queue)).await? {
        app.ready_bell.ring();
    }
    app.forget_gates().await;
    Ok(Json(PauseState { object: "queue", name: queue.to_string(), paused: false }))
}
