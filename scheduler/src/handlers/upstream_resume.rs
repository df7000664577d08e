//! `POST /v1/upstreams/{u}/resume`: call an upstream again.

use axum::Json;
use sluice_store::PausedKind;

use super::{queue_pause::PauseState, upstreams};
use crate::server::{ApiError, ErrorBody, MayOperate, NameInPath};

/// Resume an upstream
#[utoipa::path(
    post,
    path = "/v1/upstreams/{upstream}/resume",
    tag = "lines",
    security(("api_key" = ["admin"])),
    params(("upstream" = String, Path, description = "The upstream's name")),
    responses(
        (status = 200, description = "It is not paused", body = PauseState),
        (status = 404, description = "No such upstream", body = ErrorBody),
        (status = 422, description = "No name that it could have", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn resume(
    MayOperate(app): MayOperate,
    name: NameInPath,
) -> Result<Json<PauseState>, ApiError> {
    upstreams::resume(&app, PausedKind::Upstream, &name).await
}
