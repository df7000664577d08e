//! `GET /v1/files`: a page of the files.

use axum::Json;
use sluice_store::FilePage;

use super::{
    cursor_list::{CursorList, limit, nothing_else},
    file_object::{FileObject, not_found},
};
use crate::{
    InvalidInput,
    server::{ApiError, ErrorBody, MayRead, QueryPairs, SCAN_PATIENCE, asked},
};

/// List files
///
/// The newest first. Another page begins after the `last_id` of this one.
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "openai",
    params(
        ("purpose" = Option<String>, Query, description = "For this purpose alone"),
        ("after" = Option<String>, Query, description = "After this file"),
        ("limit" = Option<u32>, Query, description = "1 to 10,000; 10,000 where it is left out"),
        ("order" = Option<String>, Query, description = "`desc` or `asc`"),
    ),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The files", body = CursorList<FileObject>),
        (status = 404, description = "`after` names no file", body = ErrorBody),
        (status = 422, description = "A parameter can't be used", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    MayRead(app): MayRead,
    mut query: QueryPairs,
) -> Result<Json<CursorList<FileObject>>, ApiError> {
    app.must_reach_files()?;
    let limit = limit(&mut query, 10_000, 10_000)?;
    let after = query.take("after");
    let after = after.map(|text| text.parse().map_err(|_| not_found(&text))).transpose()?;
    let is_ascending = match query.take("order").as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(InvalidInput::value("order", "order must be asc or desc").into()),
    };
    let purpose = query.take("purpose");
    // No file has it, and the database takes no NUL.
    if purpose.as_ref().is_some_and(|purpose| purpose.contains(char::is_control)) {
        return Err(InvalidInput::value("purpose", "purpose must be a word such as batch").into());
    }
    let page = FilePage { purpose, after, is_ascending, limit: limit + 1 };
    nothing_else(&query, "purpose, after, limit, order")?;
    let files = asked(SCAN_PATIENCE, app.store.files(&app.tenant, &page)).await?;
    let files = files.into_iter().map(FileObject::from).collect();
    Ok(Json(CursorList::of(files, limit, FileObject::id)))
}
