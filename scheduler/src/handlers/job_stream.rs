//! `GET /v1/jobs/{id}/stream`: the answer of a job, token by token.

use axum::response::Response;
use http::HeaderMap;

use crate::{
    door::follow,
    server::{ApiError, ErrorBody, JobIdInPath, MayRead},
};

/// Follow an answer
///
/// The chunks of a call that was submitted with `stream: true`, as server-sent events. A client that lost its connection goes on
/// after the event that it names in `Last-Event-ID`. The answer of another job comes in one piece.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/stream",
    tag = "jobs",
    params(
        ("id" = uuid::Uuid, Path, description = "The job"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was read"),
    ),
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The chunks", body = String, content_type = "text/event-stream",
         example = json!("id: 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b/1/0\ndata: {\"object\":\"chat.completion.chunk\"}\n\n")),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn stream(
    MayRead(app): MayRead,
    JobIdInPath(id): JobIdInPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    follow(&app, id, &headers).await
}
