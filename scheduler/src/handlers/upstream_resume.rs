//! `POST /v1/upstreams/{u}/resume`: call an upstream again.

use axum::{Json, extract::State};
use sluice_store::PausedKind;

use super::{queue_pause::PauseState, upstreams};
use crate::server::{ApiError, App, ErrorBody, NameInPath};

/// Resume an upstream
#[utoipa::path(
    post,
    path = "/v1/upstreams/{upstream}/resume",
    tag = "lines",
    params(("upstream" = String, Path, description = "The upstream's name")),
    responses(
        (status = 200, description = "It is not paused", body = PauseState),
        (status = 404, description = "No such upstream", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn resume(State(app): State<App>, name: NameInPath) -> Result<Json<PauseState>, ApiError> {
    upstreams::resume(&app, PausedKind::Upstream, &name).await
}
