//! `DELETE /v1/files/{id}`: delete a file.

use axum::Json;
use serde::Serialize;
use sluice_domain::FileId;
use utoipa::ToSchema;

use super::file_object::not_found;
use crate::server::{ApiError, ErrorBody, MaySubmit, NameInPath, SCAN_PATIENCE, asked};

/// A file that was deleted.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileDeleted {
    /// Its id.
    #[schema(value_type = String)]
    id: FileId,
    /// Always `file`.
    object: &'static str,
    /// Always true.
    deleted: bool,
}

/// Delete a file
///
/// A batch that has begun with it goes on, since its lines are jobs; one that still reads it fails.
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "openai",
    params(("id" = String, Path, description = "The file")),
    security(("api_key" = ["submit"])),
    responses(
        (status = 200, description = "It is deleted", body = FileDeleted),
        (status = 404, description = "No such file", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn delete(
    MaySubmit(app): MaySubmit,
    name: NameInPath,
) -> Result<Json<FileDeleted>, ApiError> {
    app.must_reach_files()?;
    let id: FileId = name.text().parse().map_err(|_| not_found(name.text()))?;
    if asked(SCAN_PATIENCE, app.store.file_delete(&app.tenant, id)).await? {
        Ok(Json(FileDeleted { id, object: "file", deleted: true }))
    } else {
        Err(not_found(name.text()))
    }
}
