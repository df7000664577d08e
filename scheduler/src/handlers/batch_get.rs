//! `GET /v1/batches/{id}`: one batch.

use axum::Json;

use super::batch_object::{BatchObject, batch, id_of};
use crate::server::{ApiError, ErrorBody, MayRead, NameInPath};

/// Read a batch
///
/// The counts of one that is in progress lag behind by some seconds; those of one that has ended are exact.
#[utoipa::path(
    get,
    path = "/v1/batches/{id}",
    tag = "openai",
    params(("id" = String, Path, description = "The batch")),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = 404, description = "No such batch", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn get(MayRead(app): MayRead, name: NameInPath) -> Result<Json<BatchObject>, ApiError> {
    app.must_reach_files()?;
    Ok(Json(batch(&app, id_of(&name)?).await?.into()))
}
