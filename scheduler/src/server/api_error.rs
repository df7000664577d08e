//! Errors as clients see them: OpenAI's shape, with a stable `code`. What the log says is separate and may hold more.

use std::{borrow::Cow, error::Error, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};
use serde::Serialize;
use sluice_domain::JobId;
use sluice_store::StoreError;
use utoipa::ToSchema;

use crate::{InputFault, InvalidInput, SchedulerError};

/// SQLSTATEs of statements that may work when they are repeated, and changed nothing: serialization failure, deadlock,
/// lock not available, cancelled by a timeout.
const PASSING_STATES: [&str; 4] = ["40001", "40P01", "55P03", "57014"];

/// By which OpenAI's servers tell its clients whether to repeat a request.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An error answer.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    param: Option<String>,
    retry_after_s: Option<u16>,
    is_final: bool,
}

/// The body of every answer that is no success.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorContent<'a>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorContent<'a> {
    /// What is wrong, for people.
    #[schema(example = "priority must be a whole number from 1 to 5")]
    message: &'a str,
    /// `invalid_request_error` or `server_error`.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    kind: &'static str,
    /// JSON pointer of the culprit, or the name of the parameter.
    #[schema(example = "/priority")]
    param: Option<&'a str>,
    /// A stable word.
    #[schema(example = "invalid_value")]
    code: &'static str,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after_s: None, is_final: false }
    }

    pub(crate) fn job_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "job_not_found", "there is no such job")
    }

    pub(crate) fn not_possible(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "not_possible_in_state", message)
    }

    pub(crate) fn database_unavailable() -> Self {
        let message = "the database is away; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", message).retry_after(1)
    }

    pub(crate) fn database_busy() -> Self {
        let message = "the request met another one in the database and gave way; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_busy", message).retry_after(1)
    }

    /// A submit whose statement got no answer: it may have been stored all the same.
    pub(crate) fn of_submit(self, job: JobId) -> Self {
        if self.code != "database_unavailable" {
            return self;
        }
        let message = format!(
            "the database is away, and whether job {job} was stored is not known: read it later, or repeat the \
             submit with an idempotency key"
        );
        Self { message: message.into(), ..self }
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "something went wrong in Sluice itself",
        )
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Tells clients that repeat requests by themselves not to: it would be work done twice.
    pub(crate) fn not_to_be_repeated(mut self) -> Self {
        self.is_final = true;
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// JSON pointer of the culprit, or the name of the parameter.
    pub(crate) fn culprit(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// After how long trying again may help.
    pub(crate) fn retry_delay(&self) -> Option<Duration> {
        self.retry_after_s.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// The body, which is also what stands in a line of a bulk answer.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        let kind = if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let param = self.param.as_deref();
        ErrorBody { error: ErrorContent { message: &self.message, kind, param, code: self.code } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.is_final {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

impl From<InvalidInput> for ApiError {
    fn from(invalid: InvalidInput) -> Self {
        let status = match invalid.fault {
            InputFault::Malformed => StatusCode::BAD_REQUEST,
            InputFault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            InputFault::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let error = Self::new(status, invalid.code, invalid.message);
        Self { param: invalid.pointer, ..error }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_unavailable() {
            tracing::warn!(error = %chain(&error), "the database is away");
            return Self::database_unavailable();
        }
        if error.sql_state().is_some_and(|state| PASSING_STATES.contains(&state.as_str())) {
            tracing::warn!(error = %chain(&error), "a statement met another and gave way");
            return Self::database_busy();
        }
        tracing::error!(error = %chain(&error), "a statement failed");
        Self::internal()
    }
}

impl From<SchedulerError> for ApiError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Store(error) => error.into(),
            other => {
                tracing::error!(error = %chain(&other), "a request failed");
                Self::internal()
            }
        }
    }
}

/// An error with its sources, for the log.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
