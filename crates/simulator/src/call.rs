//! One call from its arrival to its answer: read it, write it down, check it, let a fault strike it or answer it.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};

use crate::{
    answer::{AnswerSource, PromptHash, hex, usage},
    api_error::ApiError,
    body::{Broken, ScriptBody},
    call_guard::CallGuard,
    clock::wall_now,
    config::SimulatorConfig,
    fault::{Fault, FaultKind, fault_by_chance},
    fault_answer::{faulty_reply, refused_at_once},
    ledger::CallArrival,
    random::SplitMix,
    rate_limit::{rate_headers, too_many},
    request::{ApiRequest, Endpoint, Glimpse, parse_object, parse_request},
    script::{Opening, Reply, Timing, good_reply},
    shape::Head,
    simulator::Simulator,
    socket::ResetSwitch,
};

const FAULT_HEADER: &str = "x-sim-fault";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Parts of the generator's seed, so that latency and faults are drawn apart.
const DRAW_LATENCY: u64 = 0x001a_7e4c;
const DRAW_FAULT: u64 = 0x00fa_0717;

/// What was read of a call.
struct Received {
    endpoint: Endpoint,
    /// The value of `x-sim-fault`.
    fault_header: Option<String>,
    account: Result<String, ApiError>,
    request: Result<ApiRequest, ApiError>,
    glimpse: Glimpse,
    hash: PromptHash,
    request_id: String,
}

/// Answers a call.
pub(crate) async fn answer_call(
    simulator: Arc<Simulator>,
    endpoint: Endpoint,
    request: Request<Incoming>,
    switch: ResetSwitch,
) -> Result<Response<ScriptBody>, Broken> {
    let config = simulator.config.load_full();
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, config.max_body_bytes).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("The request body is larger than {} bytes.", config.max_body_bytes);
            let error = ApiError::new(413, "invalid_request_error", Some("request_too_large"), message);
            return Ok(response(error_reply(&error), None, switch));
        }
        // The client left before its call was received.
        Err(_) => return Err(Broken),
    };
    let received = receive(&config, endpoint, &parts, &body);
    let arrival = simulator.record_arrival(arrival_of(&received, &parts, &body));
    let mut guard = CallGuard::new(simulator.clone(), arrival.call, arrival.arrived_at);
    if !simulator.write_arrival(arrival).await {
        let error = ApiError::new(500, "server_error", None, "the simulator can not write its ledger");
        return Ok(response(error_reply(&error), Some(guard), switch));
    }
    let mut reply = decide(&simulator, &config, &received, &mut guard);
    if let Ok(id) = HeaderValue::from_str(&received.request_id) {
        reply.headers.push((REQUEST_ID, id));
    }
    open(reply, guard, switch).await
}

/// Waits as the reply says, and begins the answer.
async fn open(
    reply: Reply,
    mut guard: CallGuard,
    switch: ResetSwitch,
) -> Result<Response<ScriptBody>, Broken> {
    let wait = match reply.opening {
        Opening::After(wait) | Opening::ResetAfter(wait) => wait,
        // The guard lives in this future, which is dropped with the connection.
        Opening::Hang => std::future::pending().await,
    };
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    if matches!(reply.opening, Opening::ResetAfter(_)) {
        guard.bill_all();
        switch.flip();
        return Err(Broken);
    }
    guard.status = Some(reply.status);
    Ok(response(reply, Some(guard), switch))
}

/// Turns a reply into an answer of the HTTP server.
pub(crate) fn response(
    reply: Reply,
    mut guard: Option<CallGuard>,
    switch: ResetSwitch,
) -> Response<ScriptBody> {
    if let Some(guard) = &mut guard {
        guard.status = Some(reply.status);
    }
    let mut response = Response::new(ScriptBody::new(reply.steps, reply.length, reply.ended, guard, switch));
    // Statuses here are three digits by construction.
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap_or_default();
    response.headers_mut().extend(reply.headers);
    response
}

/// The reply of a refusal.
pub(crate) fn error_reply(error: &ApiError) -> Reply {
    let mut reply = Reply::immediate(error.status, "application/json", error.body().to_string());
    for (name, value) in &error.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            reply.headers.push((HeaderName::from_static(name), value));
        }
    }
    reply
}

fn receive(config: &SimulatorConfig, endpoint: Endpoint, parts: &Parts, body: &Bytes) -> Received {
    let object = parse_object(body);
    let glimpse = object.as_ref().map(Glimpse::of).unwrap_or_default();
    let request = check_content_type(&parts.headers)
        .and(object)
        .and_then(|object| parse_request(endpoint, &object, &glimpse, &config.models));
    let hash = PromptHash::of(&glimpse.prompt);
    Received {
        endpoint,
        fault_header: parts.headers.get(FAULT_HEADER).map(|value| value.to_str().unwrap_or("").to_owned()),
        account: account_of(config, &parts.headers),
        request,
        hash,
        glimpse,
        request_id: format!("req-{}", uuid::Uuid::new_v4().simple()),
    }
}

fn arrival_of(received: &Received, parts: &Parts, body: &Bytes) -> CallArrival {
    let glimpse = &received.glimpse;
    let call_id = parts.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    CallArrival {
        call: 0,
        request_id: received.request_id.clone(),
        call_id: call_id.map(str::to_owned),
        arrived_at: wall_now(),
        account: received.account.as_ref().ok().cloned(),
        path: parts.uri.path().to_owned(),
        model: glimpse.model.clone(),
        body_sha256: hex(&Sha256::digest(body)),
        prompt_sha256: (!glimpse.prompt.is_empty()).then(|| received.hash.to_hex()),
        custom_key: glimpse.custom_key.clone(),
        marker: crate::fault::marker_in(&glimpse.prompt).map(str::to_owned),
        bytes: body.len() as u64,
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
pub(crate) fn account_of(config: &SimulatorConfig, headers: &HeaderMap) -> Result<String, ApiError> {
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

/// Decides what is answered; the order is that of a real server: key, request, balance, limits.
fn decide(
    simulator: &Simulator,
    config: &SimulatorConfig,
    received: &Received,
    guard: &mut CallGuard,
) -> Reply {
    try_decide(simulator, config, received, guard).unwrap_or_else(|error| error_reply(&error))
}

fn try_decide(
    simulator: &Simulator,
    config: &SimulatorConfig,
    received: &Received,
    guard: &mut CallGuard,
) -> Result<Reply, ApiError> {
    let account = received.account.as_ref().map_err(Clone::clone)?;
    let order = ordered_fault(config, received)?;
    let request = received.request.as_ref().map_err(Clone::clone)?;
    let strike = choose_fault(simulator, config, received, &request.model.id, order);
    if let Some(fault) = strike.struck() {
        guard.fault = Some(fault.kind);
        if let Some(reply) = refused_at_once(fault, wall_now()) {
            return Ok(reply);
        }
    }
    if simulator.accounts.balance(account, simulator.initial_balance()).0 <= 0 {
        return Err(ApiError::insufficient_balance());
    }
    answer_if_admitted(simulator, config, received, (account, request), &strike, guard)
}

/// The last step: takes a slot and the allowance, and makes the answer.
fn answer_if_admitted(
    simulator: &Simulator,
    config: &SimulatorConfig,
    received: &Received,
    (account, request): (&str, &ApiRequest),
    strike: &Strike,
    guard: &mut CallGuard,
) -> Result<Reply, ApiError> {
    let (model, dialect) = (request.model.id.as_str(), request.model.dialect);
    let params = &strike.fault.params;
    let source = AnswerSource {
        seed: config.seed,
        hash: received.hash,
        range: config.answer_tokens,
        ordered_tokens: params.tokens.map(|tokens| tokens.min(request.model.max_output_tokens)),
    };
    let completions = source.completions(request);
    let made = usage(request, &completions, 0).output_tokens;
    let estimate = request.prompt_tokens + request.max_output_tokens().unwrap_or(made);
    let limits = config.limits.of_model(model);
    let admission = simulator.accounts.admit(account, model, limits, estimate, Instant::now());
    let admission = admission.map_err(|refusal| too_many(dialect, model, &refusal))?;
    let rate_headers = rate_headers(dialect, &admission.remaining);
    let cached = simulator.accounts.cached_prefix_tokens(account, model, &received.glimpse.prompt);
    let usage = usage(request, &completions, cached);
    guard.admit(admission, model.to_owned(), usage);
    let head = Head { id: answer_id(received), created: wall_now().timestamp(), request, usage };
    let good = head.good(&completions, &source);
    let timing =
        timing(config, &strike.fault, &mut draws(config, received.hash, strike.occurrence, DRAW_LATENCY));
    let mut reply = match strike.struck() {
        Some(fault) => faulty_reply(good, &timing, usage.output_tokens, fault),
        None => good_reply(&good, &timing, usage.output_tokens),
    };
    reply.headers.extend(rate_headers);
    Ok(reply)
}

/// The fault that was chosen for a call, and whether it strikes this time. Its `tokens` and `latency_ms` hold
/// either way, so that a prompt has the same answer each time.
struct Strike {
    fault: Fault,
    occurrence: u32,
}

impl Strike {
    fn struck(&self) -> Option<&Fault> {
        let is_in_time = self.fault.params.times.is_none_or(|times| self.occurrence < times);
        (self.fault.kind != FaultKind::None && is_in_time).then_some(&self.fault)
    }
}

fn choose_fault(
    simulator: &Simulator,
    config: &SimulatorConfig,
    received: &Received,
    model: &str,
    order: Option<Fault>,
) -> Strike {
    let occurrence = occurrence_if_needed(simulator, config, received.hash, order.as_ref());
    let by_chance = || {
        let mut random = draws(config, received.hash, occurrence, DRAW_FAULT);
        fault_by_chance(&config.faults, model, &mut random)
    };
    let fault = order.or_else(by_chance).unwrap_or_else(|| Fault::new(FaultKind::None));
    Strike { fault, occurrence }
}

/// What is drawn for one call: the same for the same seed, prompt and number of times it came before.
fn draws(config: &SimulatorConfig, hash: PromptHash, occurrence: u32, part: u64) -> SplitMix {
    SplitMix::from_parts(&[config.seed, hash.as_u64(), u64::from(occurrence), part])
}

fn answer_id(received: &Received) -> String {
    let id = received.request_id.trim_start_matches("req-");
    match received.endpoint {
        Endpoint::Chat => format!("chatcmpl-{id}"),
        _ => format!("cmpl-{id}"),
    }
}

/// What the header or the prompt orders. An order that makes no sense is refused, so that no test believes in a
/// fault that never struck.
fn ordered_fault(config: &SimulatorConfig, received: &Received) -> Result<Option<Fault>, ApiError> {
    if !config.allow_ordered_faults {
        return Ok(None);
    }
    let header = received.fault_header.as_deref().map(Fault::from_header);
    let order = header.or_else(|| Fault::from_marker(&received.glimpse.prompt)).transpose();
    order.map_err(|error| ApiError::bad_request(error.to_string()).about(FAULT_HEADER))
}

/// How often the prompt came before; not counted where nothing depends on it.
fn occurrence_if_needed(
    simulator: &Simulator,
    config: &SimulatorConfig,
    hash: PromptHash,
    order: Option<&Fault>,
) -> u32 {
    let latency = &config.latency;
    let is_drawn = !latency.first_token.is_fixed() || !latency.per_token.is_fixed();
    let is_counted = order.is_some_and(|fault| fault.params.times.is_some());
    if is_drawn || is_counted || !config.faults.is_empty() { simulator.occurrence(hash) } else { 0 }
}

fn timing(config: &SimulatorConfig, fault: &Fault, random: &mut SplitMix) -> Timing {
    let drawn = config.latency.first_token.draw(random);
    let ordered = fault.params.latency_ms.map(std::time::Duration::from_millis);
    let keepalive = std::time::Duration::from_millis(config.keepalive_interval_ms);
    Timing {
        first_token: ordered.unwrap_or(drawn),
        per_token: config.latency.per_token.draw(random),
        keepalive: (!keepalive.is_zero()).then_some(keepalive),
    }
}
