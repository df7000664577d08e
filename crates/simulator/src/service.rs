//! Which path leads where.

use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    body::{Broken, ScriptBody},
    call::{account_of, answer_call, error_reply, response},
    control,
    request::Endpoint,
    script::Reply,
    simulator::Simulator,
    socket::ResetSwitch,
};

/// When the models were made, in unix seconds; any fixed time does.
const MODELS_CREATED: i64 = 1_767_225_600;

/// The largest form that asks for a token.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// Answers a request.
pub(crate) async fn serve(
    simulator: Arc<Simulator>,
    request: Request<Incoming>,
    switch: ResetSwitch,
) -> Result<Response<ScriptBody>, Broken> {
    let path = request.uri().path();
    match (request.method(), Endpoint::of_path(path)) {
        (&Method::POST, Some(endpoint)) => return answer_call(simulator, endpoint, request, switch).await,
        (_, Some(_)) => {
            let message = format!("Not allowed to {} on {path} (HINT: POST)", request.method());
            let error = ApiError::new(405, "invalid_request_error", Some("method_not_supported"), message);
            return Ok(response(error_reply(&error), None, switch));
        }
        _ => {}
    }
    let reply = if path.starts_with("/sim/") {
        control::answer(&simulator, request).await
    } else if path == "/oauth/token" && request.method() == Method::POST {
        give_token(&simulator, request).await
    } else {
        probe(&simulator, &request).unwrap_or_else(|error| error_reply(&error))
    };
    Ok(response(reply, None, switch))
}

async fn give_token(simulator: &Simulator, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    match Limited::new(body, MAX_FORM_BYTES).collect().await {
        Ok(form) => {
            let config = simulator.config.load();
            simulator.credentials.give_token(config.credential.as_ref(), &parts.headers, &form.to_bytes())
        }
        Err(_) => error_reply(&ApiError::bad_request("the form could not be read")),
    }
}

/// Requests that cost nothing.
fn probe(simulator: &Simulator, request: &Request<Incoming>) -> Result<Reply, ApiError> {
    simulator.count_probe();
    let path = request.uri().path();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let config = simulator.config.load();
    let known = path == "/models" || path.starts_with("/models/") || path == "/user/balance";
    if !known || request.method() != Method::GET {
        return Err(ApiError::not_found(request.uri().path()));
    }
    let account = account_of(simulator, &config, request.headers(), &[])?;
    let model_json = |id: &str| {
        let owner = if id.starts_with("deepseek") { "deepseek" } else { "simulator" };
        json!({"id": id, "object": "model", "created": MODELS_CREATED, "owned_by": owner})
    };
    let answer = match path.strip_prefix("/models") {
        Some("") => {
            let models: Vec<Value> = config.models.iter().map(|model| model_json(&model.id)).collect();
            json!({"object": "list", "data": models})
        }
        Some(name) => {
            let name = name.trim_start_matches('/');
            let model = config.models.iter().find(|model| model.id == name);
            let missing = || {
                let message = format!("The model '{name}' does not exist");
                ApiError::new(404, "invalid_request_error", Some("model_not_found"), message)
            };
            model_json(&model.ok_or_else(missing)?.id)
        }
        None => {
            let balance = simulator.accounts.balance(&account, simulator.initial_balance());
            let amount = format!("{:.2}", balance.as_usd());
            json!({"is_available": balance.0 > 0, "balance_infos": [{"currency": "USD", "total_balance": amount,
                "granted_balance": "0.00", "topped_up_balance": amount}]})
        }
    };
    Ok(Reply::immediate(200, "application/json", answer.to_string()))
}
