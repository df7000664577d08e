//! How somebody is told that it is not let in. No text says more of a key than whoever sent it knows.

use std::borrow::Cow;

use http::StatusCode;
use sluice_domain::{NotPermitted, Scope};

use super::{signed::BadSignature, token::BadToken};
use crate::server::ApiError;

fn unauthorized(code: &'static str, message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, message).param("Authorization")
}

pub(crate) fn missing_key() -> ApiError {
    unauthorized("missing_api_key", "this server asks for an API key: send Authorization: Bearer KEY")
}

pub(super) fn no_key_made() -> ApiError {
    let message = "this server is reached from other machines, and no API key has been made yet: make one with \
                   `sluice keys create`";
    unauthorized("missing_api_key", message)
}

pub(super) fn mistyped_key() -> ApiError {
    unauthorized("invalid_api_key", "the API key is mistyped or cut off: its checksum does not fit")
}

pub(super) fn invalid_key() -> ApiError {
    unauthorized("invalid_api_key", "the API key is not valid: it is unknown, has expired, or was revoked")
}

pub(super) fn bad_token(why: BadToken) -> ApiError {
    unauthorized("invalid_token", format!("the token is not valid: {why}"))
}

pub(super) fn bad_signature(why: BadSignature) -> ApiError {
    unauthorized("invalid_signature", format!("the request's signature is not valid: {why}"))
}

pub(super) fn unreadable_credential() -> ApiError {
    unauthorized("invalid_authorization", "the header Authorization can't be understood: send Bearer KEY")
}

pub(super) fn foreign_address() -> ApiError {
    let message = "the API key may not be used from this address";
    ApiError::new(StatusCode::FORBIDDEN, "address_not_allowed", message)
}

pub(crate) fn missing_scope(scope: Scope) -> ApiError {
    let message = format!("this needs the scope {scope}, which the caller does not have");
    ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message)
}

pub(crate) fn not_the_operator() -> ApiError {
    let message = "this concerns all tenants: it needs the scope admin of the tenant \"default\"";
    ApiError::new(StatusCode::FORBIDDEN, "operator_only", message)
}

pub(crate) fn queue_not_named() -> ApiError {
    let message = "the caller may use some queues only: say which of them is meant";
    ApiError::new(StatusCode::FORBIDDEN, "queue_not_allowed", message).param("queue")
}

pub(crate) fn files_not_allowed() -> ApiError {
    let message = "a key with queues, a rate or a bound of its own has no files and batches; submit jobs one by one or in bulk";
    ApiError::new(StatusCode::FORBIDDEN, "files_not_allowed", message)
}

impl From<NotPermitted> for ApiError {
    fn from(refusal: NotPermitted) -> Self {
        let (code, param) = match &refusal {
            NotPermitted::Queue(_) => ("queue_not_allowed", "/queue"),
            NotPermitted::Priority { .. } => ("priority_not_allowed", "/priority"),
        };
        Self::new(StatusCode::FORBIDDEN, code, refusal.to_string()).param(param)
    }
}
