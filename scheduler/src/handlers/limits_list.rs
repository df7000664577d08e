//! `GET /v1/limits`: how much of what accounts may use is used. Limits can't be configured yet, so there are none.

use axum::Json;

use super::answers::WholeList;

/// List limits
///
/// Empty: no limits are configured. What providers answer (429, `Retry-After`) is obeyed.
#[utoipa::path(
    get,
    path = "/v1/limits",
    tag = "lines",
    responses((status = 200, description = "The limits", body = WholeList<serde_json::Value>))
)]
pub(crate) async fn list() -> Json<WholeList<serde_json::Value>> {
    Json(WholeList::of(Vec::new()))
}
