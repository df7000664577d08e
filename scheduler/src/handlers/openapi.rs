//! `GET /openapi.json`: the description of this API.

use std::sync::LazyLock;

use axum::response::Response;
use http::StatusCode;

use super::answers::json_bytes;
use crate::server::openapi_json;

static DOCUMENT: LazyLock<String> = LazyLock::new(openapi_json);

/// This document
///
/// OpenAPI 3.1, made from the code.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    responses((status = 200, description = "The document", body = serde_json::Value))
)]
pub(crate) async fn openapi() -> Response {
    json_bytes(StatusCode::OK, DOCUMENT.as_bytes().to_vec())
}
