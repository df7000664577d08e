//! `GET /v1/files/{id}`: one file, without its bytes.

use axum::Json;

use super::file_object::{FileObject, file};
use crate::server::{ApiError, ErrorBody, MayRead, NameInPath};

/// Read a file
///
/// What is known of it; its bytes are at `/content`.
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "openai",
    params(("id" = String, Path, description = "The file")),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The file", body = FileObject),
        (status = 404, description = "No such file", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn get(MayRead(app): MayRead, name: NameInPath) -> Result<Json<FileObject>, ApiError> {
    app.must_reach_files()?;
    Ok(Json(file(&app, &name).await?.into()))
}
