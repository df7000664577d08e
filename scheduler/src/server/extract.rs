//! What endpoints take from a request. Refusals have the shape of every other error.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH, request::Parts};
use sluice_domain::{InvalidName, JobId, MAX_BODY_BYTES};

use super::{ApiError, Shared};

/// What may stand around a job's body: its other fields, and room for escapes.
const OVERHEAD_BYTES: usize = 1024 * 1024;
/// The largest request.
pub(crate) const MAX_REQUEST_BYTES: usize = MAX_BODY_BYTES + OVERHEAD_BYTES;
/// So much of a request that is too large is read and thrown away, so that its sender gets to read the refusal.
const MOST_DISCARDED_BYTES: usize = 64 * 1024 * 1024;
const DISCARD_PATIENCE: Duration = Duration::from_secs(10);

/// The id in the path. What is no id is an unknown job.
pub(crate) struct JobIdInPath(pub(crate) JobId);

impl FromRequestParts<Shared> for JobIdInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let text = path_parameter(parts, shared).await?;
        text.parse().map(Self).map_err(|_| ApiError::job_not_found())
    }
}

/// The name in the path, not yet checked.
pub(crate) struct NameInPath(String);

impl NameInPath {
    /// As it stands there.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Checks it.
    pub(crate) fn parse<T>(
        &self,
        parse: impl FnOnce(String) -> Result<T, InvalidName>,
    ) -> Result<T, ApiError> {
        parse(self.0.clone()).map_err(|error| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", error.to_string())
                .param(error.what)
        })
    }
}

impl FromRequestParts<Shared> for NameInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        path_parameter(parts, shared).await.map(Self)
    }
}

/// The only parameter of the path, decoded.
async fn path_parameter(parts: &mut Parts, shared: &Shared) -> Result<String, ApiError> {
    let unreadable =
        || ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", "the path is not UTF-8 when it is decoded");
    let parameters = RawPathParams::from_request_parts(parts, shared).await.map_err(|_| unreadable())?;
    parameters.iter().next().map(|(_, value)| value.to_owned()).ok_or_else(unreadable)
}

/// The query's names and values, decoded, in their order.
pub(crate) struct QueryPairs(pub(crate) Vec<(String, String)>);

impl QueryPairs {
    /// Takes out the value of a name; the last one counts.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let value = self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        self.0.retain(|(key, _)| key != name);
        value.filter(|value| !value.is_empty())
    }
}

impl FromRequestParts<Shared> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// The whole body, within the limits of size and time.
pub(crate) struct RequestBody(pub(crate) Bytes);

impl FromRequest<Shared> for RequestBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        read_whole(&parts.headers, body, shared.limits.body_timeout).await.map(Self)
    }
}

/// Reads a whole body, within the limit of size.
pub(super) async fn read_whole(
    headers: &HeaderMap,
    body: Body,
    body_timeout: Duration,
) -> Result<Bytes, ApiError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let declared: usize = declared.and_then(|length| length.parse().ok()).unwrap_or(0);
    let Ok(read) = tokio::time::timeout(body_timeout, read(body, declared)).await else {
        let message = "the request's body did not come in time";
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message));
    };
    read
}

async fn read(body: Body, declared: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut read = BytesMut::with_capacity(declared.min(MAX_REQUEST_BYTES));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| {
            ApiError::new(StatusCode::BAD_REQUEST, "incomplete_body", "the request's body broke off")
        })?;
        if declared.max(read.len() + chunk.len()) > MAX_REQUEST_BYTES {
            let discard = discard(&mut stream);
            // Whoever sends on for ever is cut.
            let _ = tokio::time::timeout(DISCARD_PATIENCE, discard).await;
            return Err(too_large());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

async fn discard(stream: &mut axum::body::BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        discarded += chunk.len();
        if discarded > MOST_DISCARDED_BYTES {
            return;
        }
    }
}

fn too_large() -> ApiError {
    let message = format!(
        "the request has more than {MAX_REQUEST_BYTES} bytes; a job's body may have {MAX_BODY_BYTES}"
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}
