//! `POST /v1/batches/{id}/cancel`: cancel a batch.

use axum::Json;

use super::batch_object::{BatchObject, batch, id_of};
use crate::server::{ApiError, ErrorBody, MayCancel, NameInPath, READ_PATIENCE, asked};

/// Cancel a batch
///
/// Lines that have ended are in its files; the others are cancelled. It is `cancelling` until the files are there.
#[utoipa::path(
    post,
    path = "/v1/batches/{id}/cancel",
    tag = "openai",
    params(("id" = String, Path, description = "The batch")),
    security(("api_key" = ["cancel"])),
    responses(
        (status = 200, description = "The batch, `cancelling` or `cancelled`", body = BatchObject),
        (status = 404, description = "No such batch", body = ErrorBody),
        (status = 409, description = "It has ended, or its files are being written", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn cancel(
    MayCancel(app): MayCancel,
    name: NameInPath,
) -> Result<Json<BatchObject>, ApiError> {
    app.must_reach_files()?;
    let id = id_of(&name)?;
    let is_begun = asked(READ_PATIENCE, app.store.batch_cancel_if_open(&app.tenant, id)).await?;
    let batch = batch(&app, id).await?;
    if is_begun {
        app.batch_bell.ring();
    } else if batch.times.cancelling_at.is_none() {
        return Err(ApiError::not_possible(format!("the batch is {} and can't be cancelled", batch.status)));
    }
    Ok(Json(batch.into()))
}
