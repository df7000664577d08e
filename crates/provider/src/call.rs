//! One call: at most one request, and a report of what was seen of it.
//!
//! The order is the story: prepare the body, let a connection take it while the clocks run, read the answer, judge
//! it. A call can be cancelled by its token, and the report then says whether it had been sent; dropping the future
//! closes the connection and tells nobody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sluice_domain::{ErrorClass, UpstreamUse};
use sluice_policy::classify::AnswerShape;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    CallReport, CallRequest, Client, Dialect, MayBegin, NotSentReason, StreamTap, Timeouts, Waited,
    WireOutcome,
    credential::{Authorized, NoToken},
    intake::Intake,
    judge::{Seen, judge, text},
    outgoing::{OutgoingBody, SendProgress},
    read::{ReadBounds, read_body},
    request_body::{PreparedBody, prepare},
    wire_error::{innermost, lost_class, not_sent_reason},
};

/// Room for the headers of a request: ours, and those that the HTTP library adds.
const USUAL_HEADERS: usize = 12;
/// How often a call that waits for a connection asks whether it may still begin.
const MAY_BEGIN_AGAIN: Duration = Duration::from_millis(250);

impl Client {
    /// Makes one call. Sends at most one request, whatever happens.
    pub async fn call(&self, request: CallRequest, cancel: &CancellationToken) -> CallReport {
        self.call_tapped(request, cancel, None).await
    }

    /// As [`Self::call`]; `tap` hears the events of a streamed answer as they come.
    pub async fn call_tapped(
        &self,
        request: CallRequest,
        cancel: &CancellationToken,
        tap: Option<StreamTap>,
    ) -> CallReport {
        let Some(prepared) = prepare(&request, self.upstream.is_streamed_if_worth_it) else {
            let seen = Seen::not_sent(NotSentReason::InvalidBody, String::new());
            return self.report(&request, seen, SendProgress::default());
        };
        let (body, progress) = OutgoingBody::new(prepared.bytes.clone());
        let sending = Sending { body, progress: progress.clone(), tap };
        let seen = self.exchange(&request, &prepared, sending, cancel).await;
        let progress = *progress.borrow();
        self.report(&request, seen, progress)
    }

    async fn exchange(
        &self,
        request: &CallRequest,
        prepared: &PreparedBody,
        sending: Sending,
        cancel: &CancellationToken,
    ) -> Seen {
        let Sending { body, progress, tap } = sending;
        let permit = self.pool.acquire();
        let authorizing = self.authorizer.authorize(permit.http(), &prepared.bytes);
        let authorized = select! {
            biased;
            () = cancel.cancelled() => return Seen::not_sent(NotSentReason::Cancelled, String::new()),
            authorized = authorizing => match authorized {
                Ok(authorized) => authorized,
                Err(NoToken { reason, detail }) => return Seen::not_sent(reason, detail),
            },
        };
        if !request.may_begin.now(Waited::Authorized) {
            return not_begun();
        }
        let mut outgoing = reqwest::Request::new(Method::POST, self.base_url.call_url(&request.path));
        *outgoing.headers_mut() = self.headers(request, &authorized, prepared.is_streamed);
        *outgoing.body_mut() = Some(reqwest::Body::wrap(body));
        let sending = permit.http().execute(outgoing);
        let timeouts = &self.upstream.timeouts;
        let must_end = Instant::now() + timeouts.total;
        let clocks = SendClocks { timeouts, must_end, may_begin: &request.may_begin };
        let sent = send(sending, progress.clone(), &clocks, cancel).await;
        let progress = *progress.borrow();
        let mut response = match (sent, progress.began_at) {
            (Ok(response), _) => response,
            (Err(failure), None) => return failure.before_sending(),
            (Err(failure), Some(_)) => return Seen::without_answer(WireOutcome::Unknown(failure.class())),
        };
        // A server may answer before it has read everything.
        let sent = progress.finished_at.or(progress.began_at).unwrap_or_else(Instant::now);
        let bounds = ReadBounds { timeouts, sent, must_end, cancel };
        let is_token_outdated = self.authorizer.answered(&authorized, response.status().as_u16());
        let mut intake = self.intake(&response, prepared, tap);
        let (end, first_content) = read_body(&mut response, &mut intake, &bounds).await;
        Seen { is_token_outdated, ..judge(&response, intake.finish(), end, prepared.expected, first_content) }
    }

    fn headers(&self, request: &CallRequest, authorized: &Authorized, is_streamed: bool) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(USUAL_HEADERS);
        headers.extend(authorized.headers.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = if is_streamed { "text/event-stream" } else { "application/json" };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let mut optional = |name: &'static str, value: &str| {
            // What can't stand in a header is left out: neither is needed for the call.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let call_id = request.call_id.to_string();
        optional("x-request-id", &call_id);
        if self.upstream.dialect == Dialect::OpenAi {
            optional("idempotency-key", &call_id);
        }
        if let Some(traceparent) = &request.traceparent {
            optional("traceparent", traceparent);
        }
        headers
    }

    fn intake(
        &self,
        response: &reqwest::Response,
        prepared: &PreparedBody,
        tap: Option<StreamTap>,
    ) -> Intake {
        let max_bytes = self.upstream.max_answer_bytes;
        let kind = text(response.headers(), "content-type").unwrap_or_default().to_ascii_lowercase();
        let is_json = kind.contains("json");
        let is_completion = matches!(prepared.expected.shape, AnswerShape::Chat | AnswerShape::Completion);
        let is_stream = kind.contains("event-stream") || (prepared.is_streamed && !is_json);
        if response.status().is_success() && is_completion && is_stream {
            Intake::stream(max_bytes, tap)
        } else if is_json || prepared.expected.shape != AnswerShape::Other {
            Intake::json(max_bytes)
        } else {
            Intake::plain(max_bytes)
        }
    }

    fn report(&self, request: &CallRequest, seen: Seen, progress: SendProgress) -> CallReport {
        let was_sent = !matches!(seen.outcome, WireOutcome::NotSent { .. });
        let began_at = progress.began_at.filter(|_| was_sent);
        let duration = began_at.map(|began_at| began_at.elapsed());
        let since_began = |at: Instant| began_at.map(|began_at| at.saturating_duration_since(began_at));
        CallReport {
            outcome: seen.outcome,
            upstream: UpstreamUse {
                call_id: request.call_id,
                upstream: self.upstream.name.as_str().to_owned(),
                model: request.model.as_str().to_owned(),
                answered_model: seen.answered_model,
                request_id: seen.request_id,
            },
            sent_at: duration.map(|ago| now() - ago),
            duration,
            time_to_first_byte: seen.first_content.and_then(since_began),
            is_token_outdated: seen.is_token_outdated,
        }
    }
}

/// What goes out, and who hears of it.
struct Sending {
    body: OutgoingBody,
    progress: watch::Receiver<SendProgress>,
    tap: Option<StreamTap>,
}

/// Why there is no status line.
enum SendFailure {
    Transport(reqwest::Error),
    /// The request did not get onto a connection in time, or not completely.
    SendTimeout,
    /// Nothing came back in time.
    Silence,
    /// The whole call took too long.
    TotalTimeout,
    Cancelled,
    /// It waited so long for a connection that it may not begin any more.
    NotBegun,
}

impl SendFailure {
    fn before_sending(&self) -> Seen {
        match self {
            Self::Transport(error) => Seen::not_sent(not_sent_reason(error), innermost(error)),
            Self::Cancelled => Seen::not_sent(NotSentReason::Cancelled, String::new()),
            Self::NotBegun => not_begun(),
            Self::SendTimeout | Self::Silence | Self::TotalTimeout => {
                Seen::not_sent(NotSentReason::NeverTaken, String::new())
            }
        }
    }

    fn class(&self) -> ErrorClass {
        match self {
            Self::Transport(error) => lost_class(error),
            Self::SendTimeout | Self::Silence => ErrorClass::Stalled,
            Self::TotalTimeout => ErrorClass::CallTimeout,
            // Asked only until the first byte is sent; if that went out at the same moment, nobody knows more.
            Self::Cancelled | Self::NotBegun => ErrorClass::Cancelled,
        }
    }
}

fn not_begun() -> Seen {
    let detail = "what it waited for took too long: it may not begin any more".to_owned();
    Seen::not_sent(NotSentReason::NotBegun, detail)
}

/// What bounds the sending of a request.
struct SendClocks<'a> {
    timeouts: &'a Timeouts,
    must_end: Instant,
    may_begin: &'a MayBegin,
}

/// Drives the request to its status line. The clock that runs depends on how far the request got.
async fn send(
    sending: impl Future<Output = reqwest::Result<reqwest::Response>>,
    mut progress: watch::Receiver<SendProgress>,
    clocks: &SendClocks<'_>,
    cancel: &CancellationToken,
) -> Result<reqwest::Response, SendFailure> {
    let SendClocks { timeouts, must_end, may_begin } = *clocks;
    let begun = Instant::now();
    let mut sending = std::pin::pin!(sending);
    let mut is_watching = true;
    loop {
        let SendProgress { began_at, finished_at } = *progress.borrow_and_update();
        let (limit, failure) = match (began_at, finished_at) {
            (None, _) => (begun + timeouts.connect + timeouts.send, SendFailure::SendTimeout),
            (Some(began_at), None) => (began_at + timeouts.send, SendFailure::SendTimeout),
            (_, Some(finished_at)) => {
                (finished_at + timeouts.first_byte.min(timeouts.first_token), SendFailure::Silence)
            }
        };
        select! {
            biased;
            () = cancel.cancelled() => return Err(SendFailure::Cancelled),
            response = &mut sending => return response.map_err(SendFailure::Transport),
            // The sender goes away with the body, when the connection has taken all of it or is gone.
            changed = progress.changed(), if is_watching => is_watching = changed.is_ok(),
            () = sleep_until(limit.min(must_end)) => {
                return Err(if must_end <= limit { SendFailure::TotalTimeout } else { failure });
            }
            () = sleep(MAY_BEGIN_AGAIN), if began_at.is_none() => {
                if !may_begin.now(Waited::Connecting) {
                    return Err(SendFailure::NotBegun);
                }
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thin shell: the moment of a call, which its price depends on"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
