//! `POST /v1/webhooks/{id}/redeliver`: tell of a job's end once more.

use axum::Json;

use super::webhook_object::{WebhookObject, id_of, not_found};
use crate::server::{ApiError, ErrorBody, MayReplay, NameInPath, READ_PATIENCE, asked};

/// Send a webhook anew
///
/// Whatever became of it: it is due at once, under the same `webhook-id`, with all its tries before it. It is sent even if its
/// target was disabled, which it stays.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/redeliver",
    tag = "webhooks",
    security(("api_key" = ["replay"])),
    params(("id" = uuid::Uuid, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook, pending", body = WebhookObject),
        (status = 404, description = "No such webhook", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn redeliver(
    MayReplay(app): MayReplay,
    name: NameInPath,
) -> Result<Json<WebhookObject>, ApiError> {
    let id = id_of(&name)?;
    let queues = app.caller.rights.queues.as_deref();
    let due = asked(READ_PATIENCE, app.store.webhook_redeliver(&app.tenant, queues, id)).await?;
    let due = due.ok_or_else(not_found)?;
    app.webhook_bell.ring();
    Ok(Json(due.into()))
}
