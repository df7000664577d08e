//! Errors as gRPC clients see them: the usual status codes, with REST's stable code, the pointer to the culprit and when
//! to try again in the details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{InvalidInput, server::ApiError};

/// Whose codes these are, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "sluice";

/// The status code that stands for an error.
pub(super) fn code_of(error: &ApiError) -> Code {
    match (error.status().as_u16(), error.code()) {
        (_, "idempotency_key_reused") => Code::AlreadyExists,
        (409, _) if error.retry_delay().is_some() => Code::Aborted,
        (409, _) => Code::FailedPrecondition,
        (400 | 422, _) => Code::InvalidArgument,
        (401, _) => Code::Unauthenticated,
        (403, _) => Code::PermissionDenied,
        (404, _) => Code::NotFound,
        (413 | 429, _) => Code::ResourceExhausted,
        (503, _) => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// The text for people, which begins with the culprit: many clients show nothing else.
pub(super) fn message_of(error: &ApiError) -> String {
    match error.culprit() {
        Some(pointer) => format!("{pointer}: {}", error.message()),
        None => error.message().to_owned(),
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut details = ErrorDetails::with_error_info(error.code(), DOMAIN, HashMap::new());
        if let Some(pointer) = error.culprit() {
            details.add_bad_request_violation(pointer, error.message());
        }
        if let Some(delay) = error.retry_delay() {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(code_of(&error), message_of(&error), details)
    }
}

impl From<InvalidInput> for Status {
    fn from(invalid: InvalidInput) -> Self {
        ApiError::from(invalid).into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use sluice_domain::{Conflict, JobId};
    use tonic::{Code, Status};
    use tonic_types::StatusExt;

    use crate::{InputFault, InvalidInput, handlers::jobs_submit::refused, server::ApiError};

    #[test]
    fn each_error_has_its_usual_status() {
        let job = JobId::generate();
        let too_large = InvalidInput {
            fault: InputFault::TooLarge,
            code: "body_too_large",
            message: String::new(),
            pointer: None,
        };
        let table = [
            (InvalidInput::malformed("malformed_json", "").into(), Code::InvalidArgument),
            (InvalidInput::value("/priority", "").into(), Code::InvalidArgument),
            (ApiError::from(too_large), Code::ResourceExhausted),
            (ApiError::job_not_found(), Code::NotFound),
            (refused(Conflict::OtherContent(job)), Code::AlreadyExists),
            (refused(Conflict::KeyInUse), Code::Aborted),
            (ApiError::not_possible("it runs"), Code::FailedPrecondition),
            (ApiError::not_possible("it moves; try again").retry_after(1), Code::Aborted),
            (ApiError::database_unavailable(), Code::Unavailable),
            (ApiError::internal(), Code::Internal),
            (ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", ""), Code::Unauthenticated),
            (ApiError::new(StatusCode::FORBIDDEN, "forbidden", ""), Code::PermissionDenied),
            (
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", ""),
                Code::ResourceExhausted,
            ),
        ];
        for (error, code) in table {
            assert_eq!(Status::from(error.clone()).code(), code, "{error:?}");
        }
    }

    #[test]
    fn details_hold_the_code_the_pointer_and_the_delay() {
        let status = Status::from(refused(Conflict::KeyInUse));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("idempotency_key_in_use", "sluice"));
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "/idempotency_key");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        assert!(status.message().starts_with("/idempotency_key: another submit"), "{}", status.message());
    }
}
