//! `POST /v1/replays`: start many ended jobs again.

use axum::Json;

use crate::{
    DryRun, ManyReport,
    input::{ManyRequest, parse_match_request},
    replay_matching,
    server::{ApiError, ErrorBody, MayReplay, RequestBody},
};

/// Replay many jobs
///
/// Every job that the filter means and that has ended is queued again as its next generation. A filter without a state
/// means failed jobs. With `rate_per_minute` they become due one after the other.
#[utoipa::path(
    post,
    path = "/v1/replays",
    tag = "many jobs",
    security(("api_key" = ["replay"])),
    request_body(content = ManyRequest, example = json!({"filter": {"state": "failed", "error_class": "rate_limited", "queue": "default"}, "rate_per_minute": 600})),
    responses(
        (status = 200, description = "How many", body = ManyReport,
         example = json!({"matched": 120, "changed": 118, "dry_run": false})),
        (status = 400, description = "No JSON object in UTF-8", body = ErrorBody),
        (status = 422, description = "A field can't be used", body = ErrorBody),
        (status = 503, description = "The database is away; a part may be done already", body = ErrorBody),
    )
)]
pub(crate) async fn replay_many(
    MayReplay(app): MayReplay,
    RequestBody(body): RequestBody,
) -> Result<Json<ManyReport>, ApiError> {
    let request = parse_match_request(&body)?;
    let dry_run = if request.is_dry_run { DryRun::Yes } else { DryRun::No };
    let filter = app.narrowed(request.filter)?;
    let report =
        replay_matching(&app.store, &app.tenant, &filter, request.limit, request.rate_per_minute, dry_run);
    Ok(Json(report.await?))
}
