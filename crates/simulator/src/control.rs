//! `/sim/…`: what tests in other processes ask and change. These answers are no calls and need no key.
//!
//! - `GET /sim/stats`: [`crate::SimulatorStats`].
//! - `GET /sim/ledger?after=N`: the calls after number N as JSON lines of [`crate::CallRecord`].
//! - `GET /sim/config`, `POST /sim/config`: the settings (keys left out); a post changes the fields of
//!   [`ConfigPatch`] that it names, for calls that arrive later.

use std::{fmt::Write as _, sync::Arc};

use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use crate::{
    api_error::ApiError,
    call::error_reply,
    config::{Limits, SimulatorConfig, TokenRange},
    error::SimulatorError,
    fault::FaultRule,
    latency::Latency,
    script::Reply,
    simulator::Simulator,
};

const MAX_PATCH_BYTES: usize = 1024 * 1024;

/// Settings that can be changed while the simulator runs; what is not named stays.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigPatch {
    /// New latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// New limits. What is under way or in the windows still counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// New faults by chance, in place of all that were there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<Vec<FaultRule>>,
    /// New balance of every account, in USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_usd: Option<f64>,
    /// New length of answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_tokens: Option<TokenRange>,
    /// New interval of keep-alives; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_interval_ms: Option<u64>,
}

impl ConfigPatch {
    fn applied_to(&self, config: &SimulatorConfig) -> SimulatorConfig {
        let mut config = config.clone();
        config.latency = self.latency.unwrap_or(config.latency);
        config.limits = self.limits.clone().unwrap_or(config.limits);
        config.faults = self.faults.clone().unwrap_or(config.faults);
        config.balance_usd = self.balance_usd.or(config.balance_usd);
        config.answer_tokens = self.answer_tokens.unwrap_or(config.answer_tokens);
        config.keepalive_interval_ms = self.keepalive_interval_ms.unwrap_or(config.keepalive_interval_ms);
        config
    }
}

/// Changes the settings, or leaves them as they are where the new ones make no sense.
pub(crate) fn change_config(simulator: &Simulator, patch: &ConfigPatch) -> Result<(), SimulatorError> {
    let changed = patch.applied_to(&simulator.config.load());
    changed.validate()?;
    simulator.config.store(Arc::new(changed));
    if patch.balance_usd.is_some() {
        simulator.accounts.reset_balances();
    }
    Ok(())
}

/// Answers a request to `/sim/…`.
pub(crate) async fn answer(simulator: &Simulator, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    match (request.method().clone(), path.as_str()) {
        (Method::GET, "/sim/stats") => json_reply(&simulator.stats()),
        (Method::GET, "/sim/ledger") => ledger(simulator, request.uri().query().unwrap_or("")),
        (Method::GET, "/sim/config") => json_reply(&without_keys(&simulator.config.load())),
        (Method::POST, "/sim/config") => post_config(simulator, request).await,
        _ => error_reply(&ApiError::not_found(&path)),
    }
}

fn json_reply(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => Reply::immediate(200, "application/json", body),
        Err(error) => error_reply(&ApiError::new(500, "server_error", None, error.to_string())),
    }
}

fn without_keys(config: &SimulatorConfig) -> SimulatorConfig {
    SimulatorConfig { api_keys: None, credential: None, ..config.clone() }
}

fn ledger(simulator: &Simulator, query: &str) -> Reply {
    let after = match query.split('&').find_map(|pair| pair.strip_prefix("after=")).map(str::parse) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => {
            return error_reply(&ApiError::bad_request("after must be a whole number").about("after"));
        }
    };
    let mut lines = String::new();
    for record in simulator.calls_since(after) {
        if let Ok(line) = serde_json::to_string(&record) {
            // Writing to a String can't fail.
            let _ = writeln!(lines, "{line}");
        }
    }
    Reply::immediate(200, "application/jsonl", lines)
}

async fn post_config(simulator: &Simulator, request: Request<Incoming>) -> Reply {
    let Ok(body) = Limited::new(request.into_body(), MAX_PATCH_BYTES).collect().await else {
        return error_reply(&ApiError::bad_request("the body could not be read"));
    };
    let patch = serde_json::from_slice::<ConfigPatch>(&body.to_bytes()).map_err(|error| error.to_string());
    let outcome = patch.and_then(|patch| change_config(simulator, &patch).map_err(|error| error.to_string()));
    match outcome {
        Ok(()) => json_reply(&without_keys(&simulator.config.load())),
        Err(problem) => error_reply(&ApiError::bad_request(problem)),
    }
}
