//! `POST /v1/embeddings`: embed texts, as OpenAI's API has it.

use axum::response::Response;
use http::HeaderMap;

use crate::{
    door::{Incoming, answer},
    server::{ApiError, ErrorBody, MaySubmit, RequestBody},
};

/// Embed texts
///
/// The call is stored as a job, made by a worker, and answered with the provider's status and bytes. A client that goes
/// away gets the answer later: by its key, by the job's id, or by asking again.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "openai",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "A repeated request with it gets the first one's answer"),
        ("x-sluice-queue" = Option<String>, Header, description = "The line; `default` where it is left out"),
        ("x-sluice-priority" = Option<u8>, Header, description = "1 to 5, 5 is most urgent; 3 where it is left out"),
        ("x-sluice-deadline" = Option<String>, Header, description = "A duration such as `10m`: the call fails if it has no answer by then"),
        ("x-sluice-max-attempts" = Option<u16>, Header, description = "Tries at most"),
        ("x-sluice-on-unknown" = Option<String>, Header, description = "`retry` or `hold`"),
        ("x-sluice-tag-NAME" = Option<String>, Header, description = "The tag NAME of the job; any number of them"),
    ),
    request_body(content = Object, description = "The provider's request",
        example = json!({"model": "embedder", "input": ["a text"]})),
    security(("api_key" = ["submit"])),
    responses(
        (status = 200, description = "The provider's answer; `x-sluice-job-id` names the job", body = Object,
         example = json!({"object": "list", "model": "embedder", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]})),
        (status = 400, description = "The request can't be used, or so says the provider", body = ErrorBody),
        (status = 404, description = "No route has the model", body = ErrorBody),
        (status = 409, description = "The job was cancelled, or another request with the key has not committed", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 422, description = "The key was used with another content", body = ErrorBody),
        (status = 429, description = "The provider's limit was in the way for all tries", body = ErrorBody),
        (status = 502, description = "The provider's answers could not be used", body = ErrorBody),
        (status = 503, description = "The database is away, this server stops, or the call is held", body = ErrorBody),
        (status = 504, description = "No answer in time", body = ErrorBody),
        (status = "default", description = "What else the provider answered", body = Object),
    )
)]
pub(crate) async fn embed(
    MaySubmit(app): MaySubmit,
    headers: HeaderMap,
    RequestBody(body): RequestBody,
) -> Result<Response, ApiError> {
    answer(&app, Incoming { path: "/v1/embeddings", headers, body }).await
}
