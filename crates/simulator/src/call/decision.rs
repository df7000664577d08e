//! What is answered to a call, in the order of a real server: key, request, balance, limits, and then the answer.

use std::time::{Duration, Instant};

use super::{
    error_reply,
    received::Received,
    strike::{Strike, choose_fault, draws, ordered_fault},
};
use crate::{
    answer::{AnswerSource, usage},
    api_error::ApiError,
    call_guard::CallGuard,
    clock::wall_now,
    config::SimulatorConfig,
    fault::Fault,
    fault_answer::{faulty_reply, refused_at_once},
    random::SplitMix,
    rate_limit::{rate_headers, too_many},
    request::{ApiRequest, Endpoint},
    script::{Reply, Timing, good_reply},
    shape::Head,
    simulator::Simulator,
};

/// A part of the generator's seed, so that latency and faults are drawn apart.
const DRAW_LATENCY: u64 = 0x001a_7e4c;

/// Decides what is answered. An admitted call is handed to its guard.
pub(super) fn decide(
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

fn answer_id(received: &Received) -> String {
    let id = received.request_id.trim_start_matches("req-");
    match received.endpoint {
        Endpoint::Chat => format!("chatcmpl-{id}"),
        _ => format!("cmpl-{id}"),
    }
}

fn timing(config: &SimulatorConfig, fault: &Fault, random: &mut SplitMix) -> Timing {
    let drawn = config.latency.first_token.draw(random);
    let ordered = fault.params.latency_ms.map(Duration::from_millis);
    let keepalive = Duration::from_millis(config.keepalive_interval_ms);
    Timing {
        first_token: ordered.unwrap_or(drawn),
        per_token: config.latency.per_token.draw(random),
        keepalive: (!keepalive.is_zero()).then_some(keepalive),
    }
}
