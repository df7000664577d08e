//! What a request shows to prove who sends it.

use http::{HeaderMap, header::AUTHORIZATION};
use sluice_domain::{ApiKey, NoApiKey};

use super::refusals;
use crate::server::ApiError;

/// What a request shows.
pub(super) enum Credential<'a> {
    /// Nothing.
    None,
    /// A key of ours, at least by its looks.
    Key(ApiKey),
    /// Something else behind `Bearer`: a token, or what a client of another API sends because it must send something.
    Bearer(&'a str),
    /// `Authorization` with another scheme.
    Other {
        /// Its name.
        scheme: &'a str,
        /// What follows it.
        parameters: &'a str,
    },
}

/// Reads `Authorization`. A key of ours that is mistyped is always refused: whoever sends it means to be known by it.
pub(super) fn credential_of(headers: &HeaderMap) -> Result<Credential<'_>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, further) = (values.next(), values.next());
    let Some(value) = value else { return Ok(Credential::None) };
    let text = value.to_str().ok().filter(|_| further.is_none());
    let text = text.ok_or_else(refusals::unreadable_credential)?.trim();
    let (scheme, parameters) = text.split_once(' ').unwrap_or((text, ""));
    let parameters = parameters.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credential::Other { scheme, parameters });
    }
    match ApiKey::parse(parameters) {
        Ok(key) => Ok(Credential::Key(key)),
        Err(NoApiKey::Mistyped) => Err(refusals::mistyped_key()),
        Err(NoApiKey::Foreign) => Ok(Credential::Bearer(parameters)),
    }
}
