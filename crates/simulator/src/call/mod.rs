//! One call from its arrival to its answer: read it (`received`), write it down, decide what becomes of it
//! (`decision`, `strike`), answer.

mod decision;
mod received;
mod strike;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

pub(crate) use received::account_of;

use crate::{
    api_error::ApiError,
    body::{Broken, ScriptBody},
    call_guard::CallGuard,
    request::Endpoint,
    script::{Opening, Reply},
    simulator::Simulator,
    socket::ResetSwitch,
};
use decision::decide;
use received::{REQUEST_ID, Received};

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
    let received = Received::read(&simulator, &config, endpoint, &parts, &body);
    let arrival = simulator.record_arrival(received.arrival(&parts, &body));
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
