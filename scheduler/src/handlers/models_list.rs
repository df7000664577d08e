//! `GET /v1/models`: the models that calls can ask for.

use axum::Json;
use serde::Serialize;
use sluice_config::Configuration;

use super::answers::WholeList;
use crate::server::{ApiError, ErrorBody, MayRead};

/// A model that has a route.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelObject {
    /// Its name.
    #[schema(example = "deepseek-flash")]
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Always 0: nobody knows.
    created: i64,
    /// The upstream that it is called at first.
    #[schema(example = "deepseek-us")]
    owned_by: String,
}

/// List models
///
/// Those that have a route in the applied configuration. Where it has no routes, any model leads to the first upstream,
/// and the list is empty.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "openai",
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The models", body = WholeList<ModelObject>),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(MayRead(app): MayRead) -> Result<Json<WholeList<ModelObject>>, ApiError> {
    let gates = app.gates().await?;
    Ok(Json(WholeList::of(gates.configuration().map(models).unwrap_or_default())))
}

pub(super) fn models(configuration: &Configuration) -> Vec<ModelObject> {
    let object = |route: &sluice_config::Route| ModelObject {
        id: route.model.to_string(),
        object: "model",
        created: 0,
        owned_by: route.targets.first().map(|target| target.upstream.to_string()).unwrap_or_default(),
    };
    configuration.routes.iter().map(object).collect()
}

impl ModelObject {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}
