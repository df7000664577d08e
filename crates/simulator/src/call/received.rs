//! What is read of a call: whose it is, what it asks for, and what the ledger says of it, also where it is refused.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header, request::Parts};
use sha2::{Digest as _, Sha256};

use crate::{
    answer::{PromptHash, hex},
    api_error::ApiError,
    clock::wall_now,
    config::{SimulatorConfig, default_account},
    ledger::CallArrival,
    request::{ApiRequest, Endpoint, Glimpse, parse_object, parse_request},
    simulator::Simulator,
};

/// Orders a fault.
const FAULT_HEADER: &str = "x-sim-fault";
/// The id that the client gives its call, and the one that the answer gives.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What was read of a call.
pub(super) struct Received {
    pub(super) endpoint: Endpoint,
    /// The value of `x-sim-fault`.
    pub(super) fault_header: Option<String>,
    pub(super) account: Result<String, ApiError>,
    pub(super) request: Result<ApiRequest, ApiError>,
    pub(super) glimpse: Glimpse,
    pub(super) hash: PromptHash,
    pub(super) request_id: String,
}

impl Received {
    /// Reads what can be read; refusals are kept for later.
    pub(super) fn read(
        simulator: &Simulator,
        config: &SimulatorConfig,
        endpoint: Endpoint,
        parts: &Parts,
        body: &Bytes,
    ) -> Self {
        let object = parse_object(body);
        let glimpse = object.as_ref().map(Glimpse::of).unwrap_or_default();
        let request = check_content_type(&parts.headers)
            .and(object)
            .and_then(|object| parse_request(endpoint, &object, &glimpse, &config.models));
        let hash = PromptHash::of(&glimpse.prompt);
        Self {
            endpoint,
            fault_header: parts
                .headers
                .get(FAULT_HEADER)
                .map(|value| value.to_str().unwrap_or("").to_owned()),
            account: account_of(simulator, config, &parts.headers, body),
            request,
            hash,
            glimpse,
            request_id: format!("req-{}", uuid::Uuid::new_v4().simple()),
        }
    }

    /// The call's line on the ledger, not numbered yet.
    pub(super) fn arrival(&self, parts: &Parts, body: &Bytes) -> CallArrival {
        let glimpse = &self.glimpse;
        let call_id = parts.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        CallArrival {
            call: 0,
            request_id: self.request_id.clone(),
            call_id: call_id.map(str::to_owned),
            arrived_at: wall_now(),
            account: self.account.as_ref().ok().cloned(),
            path: parts.uri.path().to_owned(),
            model: glimpse.model.clone(),
            body_sha256: hex(&Sha256::digest(body)),
            prompt_sha256: (!glimpse.prompt.is_empty()).then(|| self.hash.to_hex()),
            custom_key: glimpse.custom_key.clone(),
            marker: crate::fault::marker_in(&glimpse.prompt).map(str::to_owned),
            bytes: body.len() as u64,
        }
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = value.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("Unsupported Content-Type '{kind}': send 'application/json'.");
    Err(ApiError::new(415, "invalid_request_error", Some("unsupported_media_type"), message))
}

/// Whose call it is. With any key being good, each is an account, named by a hash so that no key is written down.
pub(crate) fn account_of(
    simulator: &Simulator,
    config: &SimulatorConfig,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<String, ApiError> {
    if let Some(check) = &config.credential {
        return simulator.credentials.check(check, headers, body).map(|()| default_account());
    }
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let token = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).unwrap_or("").trim();
    match (&config.api_keys, token) {
        (_, "") if config.require_key => Err(ApiError::missing_key()),
        (_, "") => Ok("anonymous".to_owned()),
        (None, token) => Ok(format!("key-{}", &hex(&Sha256::digest(token))[..8])),
        (Some(keys), token) => {
            let known = keys.iter().find(|known| known.key == token);
            known.map(|known| known.account.clone()).ok_or_else(ApiError::wrong_key)
        }
    }
}
