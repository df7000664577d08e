//! `POST /v1/accounts/{a}/resume`: use an account again, after its key was set right or it was paid.

use axum::Json;
use sluice_store::PausedKind;

use super::{queue_pause::PauseState, upstreams};
use crate::server::{ApiError, ErrorBody, MayOperate, NameInPath};

/// Resume an account
///
/// Workers pause an account when its money is used up (402, `insufficient_quota`).
#[utoipa::path(
    post,
    path = "/v1/accounts/{account}/resume",
    tag = "lines",
    security(("api_key" = ["admin"])),
    params(("account" = String, Path, description = "The account's name")),
    responses(
        (status = 200, description = "It is not paused", body = PauseState),
        (status = 404, description = "No such account", body = ErrorBody),
        (status = 422, description = "No name that it could have", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn resume(
    MayOperate(app): MayOperate,
    name: NameInPath,
) -> Result<Json<PauseState>, ApiError> {
    upstreams::resume(&app, PausedKind::Account, &name).await
}
