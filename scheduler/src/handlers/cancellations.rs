//! `POST /v1/cancellations`: cancel many jobs.

use axum::Json;

use crate::{
    DryRun, InvalidInput, ManyReport, cancel_matching,
    input::{ManyRequest, parse_match_request},
    server::{ApiError, ErrorBody, MayCancel, RequestBody},
};

/// Cancel many jobs
///
/// Every job that the filter means is cancelled. A filter without a state means all that have not ended.
#[utoipa::path(
    post,
    path = "/v1/cancellations",
    tag = "many jobs",
    security(("api_key" = ["cancel"])),
    request_body(content = ManyRequest, example = json!({"filter": {"queue": "nightly"}, "dry_run": true})),
    responses(
        (status = 200, description = "How many", body = ManyReport,
         example = json!({"matched": 120, "changed": 118, "dry_run": false})),
        (status = 400, description = "No JSON object in UTF-8", body = ErrorBody),
        (status = 422, description = "A field can't be used", body = ErrorBody),
        (status = 503, description = "The database is away; a part may be done already", body = ErrorBody),
    )
)]
pub(crate) async fn cancel_many(
    MayCancel(app): MayCancel,
    RequestBody(body): RequestBody,
) -> Result<Json<ManyReport>, ApiError> {
    let request = parse_match_request(&body)?;
    if request.rate_per_minute.is_some() {
        let message = "only replays take rate_per_minute";
        return Err(InvalidInput::at("/rate_per_minute", "not_supported", message).into());
    }
    let dry_run = if request.is_dry_run { DryRun::Yes } else { DryRun::No };
    let filter = app.narrowed(request.filter)?;
    let report = cancel_matching(&app.store, &app.tenant, &filter, request.limit, dry_run);
    Ok(Json(report.await?))
}
