//! `POST /v1/upstreams/{u}/pause`: stop calling an upstream.

use axum::Json;
use sluice_domain::UpstreamName;
use sluice_store::PausedKind;

use super::{queue_pause::PauseState, upstreams::require_configured};
use crate::server::{ApiError, ErrorBody, MayOperate, NameInPath, READ_PATIENCE, asked};

/// Pause an upstream
///
/// Nothing more is sent to it, as soon as the workers' next beat tells them (3 s); calls under way go on.
#[utoipa::path(
    post,
    path = "/v1/upstreams/{upstream}/pause",
    tag = "lines",
    security(("api_key" = ["admin"])),
    params(("upstream" = String, Path, description = "The upstream's name")),
    responses(
        (status = 200, description = "It is paused", body = PauseState),
        (status = 404, description = "No such upstream", body = ErrorBody),
        (status = 422, description = "No name that it could have", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn pause(
    MayOperate(app): MayOperate,
    name: NameInPath,
) -> Result<Json<PauseState>, ApiError> {
    let name = name.parse(UpstreamName::new)?;
    require_configured(&app, PausedKind::Upstream, name.as_str()).await?;
    asked(READ_PATIENCE, app.store.pause(PausedKind::Upstream, name.as_str(), "operator")).await?;
    app.forget_gates();
    Ok(Json(PauseState { object: "upstream", name: name.to_string(), paused: true }))
}
