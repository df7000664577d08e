//! `GET /v1/files/{id}/content`: the bytes of a file, chunk by chunk.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};

use super::file_object::file;
use crate::{
    files,
    server::{ApiError, ErrorBody, MayRead, NameInPath},
};

/// Download a file
///
/// Its bytes, as they were sent or written.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/content",
    tag = "openai",
    params(("id" = String, Path, description = "The file")),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The bytes", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "No such file", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn content(MayRead(app): MayRead, name: NameInPath) -> Result<Response, ApiError> {
    app.must_reach_files()?;
    let file = file(&app, &name).await?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        // A download that breaks off is seen by its length.
        (CONTENT_LENGTH, HeaderValue::from(file.bytes)),
        // What somebody sent is never to be taken for a page of ours.
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from_stream(files::content(app.store.clone(), &file))).into_response())
}
