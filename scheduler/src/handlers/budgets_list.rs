//! `GET /v1/budgets`: how much of what may be spent is spent. Budgets can't be configured yet, so there are none.

use axum::Json;

use super::answers::WholeList;
use crate::server::MayRead;

/// List budgets
///
/// Empty: no budgets are configured.
#[utoipa::path(
    get,
    path = "/v1/budgets",
    tag = "lines",
    security(("api_key" = ["read"])),
    responses((status = 200, description = "The budgets", body = WholeList<serde_json::Value>))
)]
pub(crate) async fn list(_: MayRead) -> Json<WholeList<serde_json::Value>> {
    Json(WholeList::of(Vec::new()))
}
