//! `POST /v1/webhooks/resume`: tell a target again that was given up.

use axum::Json;
use chrono::DateTime;
use serde::Serialize;
use sluice_domain::WebhookUrl;
use utoipa::ToSchema;

use crate::{
    InvalidInput,
    input::Fields,
    server::{ApiError, ErrorBody, MayAdminister, READ_PATIENCE, RequestBody, asked},
};

/// Which target is told again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used; fields are taken apart one by one")]
pub(crate) struct WebhookResume {
    /// The target.
    #[schema(example = "https://example.com/hooks/sluice")]
    url: String,
    /// Ends of jobs since then are sent that were given up; all that are kept where it is left out.
    since: Option<chrono::DateTime<chrono::Utc>>,
}

/// A target that is told again.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookTarget {
    /// Always `webhook_target`.
    #[schema(example = "webhook_target")]
    object: &'static str,
    /// The target.
    #[schema(example = "https://example.com/hooks/sluice")]
    url: String,
    /// How many webhooks are due again.
    resumed: u64,
}

/// Resume a target of webhooks
///
/// A target that answered 410 is told again what comes; and what was given up, for that or after days in vain, is due at
/// once.
#[utoipa::path(
    post,
    path = "/v1/webhooks/resume",
    tag = "webhooks",
    security(("api_key" = ["admin"])),
    request_body(content = WebhookResume, example = json!({"url": "https://example.com/hooks/sluice", "since": "2026-10-01T00:00:00Z"})),
    responses(
        (status = 200, description = "It is told again", body = WebhookTarget),
        (status = 400, description = "No JSON object in UTF-8", body = ErrorBody),
        (status = 422, description = "A field can't be used", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn resume(
    MayAdminister(app): MayAdminister,
    RequestBody(body): RequestBody,
) -> Result<Json<WebhookTarget>, ApiError> {
    let fields = Fields::of_document(&body, &["url", "since"])?;
    let url = fields.parsed("url", WebhookUrl::new)?;
    let url = url.ok_or_else(|| InvalidInput::at("/url", "missing_field", "url is missing"))?;
    let since = fields.time("since")?.unwrap_or(DateTime::UNIX_EPOCH);
    let resumed = asked(READ_PATIENCE, app.store.webhook_target_resume(&app.tenant, &url, since)).await?;
    app.webhook_bell.ring();
    Ok(Json(WebhookTarget { object: "webhook_target", url: url.as_str().to_owned(), resumed }))
}
