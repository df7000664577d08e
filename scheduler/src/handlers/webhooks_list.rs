//! `GET /v1/webhooks`: which ends of jobs were told, and which are still to be.

use axum::Json;
use sluice_store::WebhookPage;

use super::{
    cursor_list::{CursorList, limit, nothing_else},
    webhook_object::WebhookObject,
};
use crate::{
    InvalidInput,
    server::{ApiError, ErrorBody, MayRead, QueryPairs, SCAN_PATIENCE, asked},
};

/// List webhooks
///
/// The newest first: one for each end of a job that was submitted with `webhook`. Another page begins after the `last_id`
/// of this one.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    tag = "webhooks",
    security(("api_key" = ["read"])),
    params(
        ("state" = Option<String>, Query, description = "`pending`, `delivered`, `failed` or `disabled`"),
        ("job" = Option<uuid::Uuid>, Query, description = "Of this job alone"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 20 where it is left out"),
        ("after" = Option<uuid::Uuid>, Query, description = "After this one"),
    ),
    responses(
        (status = 200, description = "A page", body = CursorList<WebhookObject>),
        (status = 422, description = "A parameter can't be used", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    MayRead(app): MayRead,
    mut query: QueryPairs,
) -> Result<Json<CursorList<WebhookObject>>, ApiError> {
    let limit = limit(&mut query, 20, 500)?;
    let parsed = |name: &'static str, text: Option<String>| {
        let id = text.map(|text| text.parse::<uuid::Uuid>()).transpose();
        id.map_err(|_| InvalidInput::value(name, format!("{name} must be an id")))
    };
    let state = query.take("state").map(|word| word.parse()).transpose();
    let page = WebhookPage {
        state: state.map_err(|error: sluice_domain::UnknownWord| InvalidInput::value("state", error))?,
        job: parsed("job", query.take("job"))?.map(sluice_domain::JobId::from_uuid),
        after: parsed("after", query.take("after"))?.map(sluice_domain::WebhookId::from_uuid),
        queues: app.caller.rights.queues.clone(),
        limit: limit + 1,
    };
    nothing_else(&query, "state, job, limit, after")?;
    let webhooks = asked(SCAN_PATIENCE, app.store.webhooks(&app.tenant, &page)).await?;
    let webhooks = webhooks.into_iter().map(WebhookObject::from).collect();
    Ok(Json(CursorList::of(webhooks, limit, WebhookObject::id)))
}
