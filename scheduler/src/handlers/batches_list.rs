//! `GET /v1/batches`: a page of the batches.

use axum::Json;
use sluice_store::BatchPage;

use super::{
    batch_object::{BatchObject, not_found},
    cursor_list::{CursorList, limit, nothing_else},
};
use crate::server::{ApiError, ErrorBody, MayRead, QueryPairs, READ_PATIENCE, asked};

/// List batches
///
/// The newest first. Another page begins after the `last_id` of this one.
#[utoipa::path(
    get,
    path = "/v1/batches",
    tag = "openai",
    params(
        ("after" = Option<String>, Query, description = "After this batch"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 20 where it is left out"),
    ),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The batches", body = CursorList<BatchObject>),
        (status = 404, description = "`after` names no batch", body = ErrorBody),
        (status = 422, description = "A parameter can't be used", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    MayRead(app): MayRead,
    mut query: QueryPairs,
) -> Result<Json<CursorList<BatchObject>>, ApiError> {
    app.must_reach_files()?;
    let limit = limit(&mut query, 20, 100)?;
    let after = query.take("after");
    let after = after.map(|text| text.parse().map_err(|_| not_found(&text))).transpose()?;
    nothing_else(&query, "after, limit")?;
    let page = BatchPage { after, limit: limit + 1 };
    let batches = asked(READ_PATIENCE, async {
        let ids = app.store.batch_ids(&app.tenant, page).await?;
        app.store.batches_by_id(&ids).await
    });
    let batches = batches.await?.into_iter().map(BatchObject::from).collect();
    Ok(Json(CursorList::of(batches, limit, BatchObject::id)))
}
