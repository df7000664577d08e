//! `GET /v1/models/{model}`: one model that calls can ask for.

use axum::Json;
use http::StatusCode;

use super::models_list::{ModelObject, models};
use crate::server::{ApiError, ErrorBody, MayRead, NameInPath};

/// Read a model
///
/// Its name in the path is percent-encoded where it holds a slash.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "openai",
    params(("model" = String, Path, description = "Its name")),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The model", body = ModelObject),
        (status = 404, description = "No route has the model", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn get(MayRead(app): MayRead, name: NameInPath) -> Result<Json<ModelObject>, ApiError> {
    let name = name.parse(sluice_domain::ModelName::new)?;
    let gates = app.gates().await?;
    let mut models = gates.configuration().map(models).unwrap_or_default().into_iter();
    models.find(|model| model.id() == name.as_str()).map(Json).ok_or_else(|| {
        let message = format!("no route has the model {:?}", name.as_str());
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message)
    })
}
