//! A call whose client wants its answer token by token.
//!
//! The worker's events are passed on as they are, each with an id, by which a client that lost its connection goes on
//! (`Last-Event-ID`). The head of the answer waits for the first event, so that a call that fails before it has a status
//! like any other; after [`HEAD_PATIENCE`] it is sent all the same, with comments that keep the connection.
//!
//! `[DONE]` is not passed on but said at the end of the job: whoever has read it knows that the answer is stored. An
//! attempt that breaks off half way may be followed by another one, with other tokens. What was sent can't be taken back,
//! so then the stream ends with an error, and the job goes on without it.
//!
//! Where there are no events (the job ended before somebody asked, its worker did not stream, or they are forgotten), the
//! whole answer is made a stream (`chunks`).

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::StreamExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use sluice_domain::{JobState, JobView};
use sluice_store::{Bodies, StreamEvent};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};

use super::{
    answer::{self, Origin},
    chunks::{self, DONE},
    event::{Chunk, LastEvent, error_event, numbered},
    left::Waiter,
    wait::{Begun, held, stopping},
};
use crate::{
    handlers::answers::job,
    input::AnswerForm,
    job_json::as_json,
    server::{ApiError, App},
    streams::StreamReader,
};

/// How long the head waits for the first event.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// So often a comment shows that the connection lives, while there is nothing to send.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b": keep-alive\n\n";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// After which event a client wants to go on.
pub(super) fn last_event(headers: &HeaderMap) -> Result<Option<LastEvent>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let last = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    last.map(Some).ok_or_else(|| {
        let message = "Last-Event-ID is no id of an event of ours";
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", message).param("Last-Event-ID")
    })
}

/// Answers a call that is stored.
pub(super) async fn answer(app: &App, begun: Begun, wants_usage: bool) -> Response {
    let (job, origin) = (begun.waiter.job, begun.origin);
    if begun.resumed.is_none()
        && let Begun { mut waiter, ended: Some(ended), .. } = begun
    {
        waiter.is_answered();
        return answer::of_job(ended, AnswerForm::Stream { wants_usage }, origin);
    }
    let mut forwarder = Forwarder::of(app, begun, wants_usage).await;
    match forwarder.first_turn().await {
        Turn::Send(first) => answer::named(forwarder.into_response(first, origin), job),
        Turn::Quiet => answer::named(forwarder.into_response(Bytes::from_static(COMMENT), origin), job),
        Turn::Ended(view) if !forwarder.has_begun => {
            forwarder.waiter.is_answered();
            answer::of_job(*view, AnswerForm::Stream { wants_usage }, origin)
        }
        Turn::Ended(view) => {
            let last = forwarder.tail(&view);
            answer::named(forwarder.into_response(last, origin), job)
        }
        Turn::Failed(error) => {
            forwarder.waiter.leaves().await;
            answer::named(error.into_response(), job)
        }
    }
}

/// What happens next to a stream.
enum Turn {
    /// These bytes go to the client.
    Send(Bytes),
    /// Nothing has happened for a while.
    Quiet,
    /// The job has ended, and all of its events were sent.
    Ended(Box<JobView>),
    /// It can't go on.
    Failed(ApiError),
}

/// Passes the events of one job on to one client.
#[expect(clippy::struct_excessive_bools, reason = "four facts about a stream that vary freely")]
struct Forwarder {
    app: App,
    waiter: Waiter,
    wants_usage: bool,
    /// `None`: they can't be followed, and the answer comes in one piece.
    reader: Option<StreamReader>,
    end: watch::Receiver<bool>,
    ended: Option<JobView>,
    /// The attempt that is passed on, and its next event.
    lease_no: u32,
    event_no: u32,
    /// Whether the client has events of this attempt.
    has_begun: bool,
    /// Whether the attempt's answer was at its end.
    is_complete: bool,
    /// Whether everything was said.
    is_over: bool,
}

impl Forwarder {
    async fn of(app: &App, begun: Begun, wants_usage: bool) -> Self {
        let Begun { waiter, end, ended, resumed, .. } = begun;
        let (lease_no, event_no) = resumed.as_ref().map_or((0, 0), |last| (last.lease_no, last.event_no + 1));
        let following = app.streams.follow(waiter.job, lease_no, event_no).await;
        let reader = following
            .inspect_err(|error| tracing::warn!(error = %error, "a stream can't be followed; it comes whole"))
            .ok();
        let mut forwarder = Self {
            app: app.clone(),
            waiter,
            wants_usage,
            reader,
            end,
            ended: None,
            lease_no,
            event_no,
            has_begun: resumed.is_some(),
            is_complete: false,
            is_over: false,
        };
        if let Some(job) = ended {
            forwarder.take_end(job).await;
        }
        forwarder
    }

    /// The first turn, which waits no longer than a head may.
    async fn first_turn(&mut self) -> Turn {
        let patience = tokio::time::Instant::now() + HEAD_PATIENCE;
        tokio::select! {
            biased;
            turn = self.turn() => turn,
            () = sleep_until(patience) => Turn::Quiet,
        }
    }

    /// Safe to drop and to call again.
    async fn turn(&mut self) -> Turn {
        let stopped = self.app.stopping.clone();
        loop {
            if let Some(job) = &self.ended {
                let Some(event) = self.reader.as_mut().and_then(StreamReader::next_of_rest) else {
                    return Turn::Ended(Box::new(job.clone()));
                };
                match self.take(event) {
                    Some(turn) => return turn,
                    None => continue,
                }
            }
            tokio::select! {
                event = next_event(self.reader.as_mut()) => {
                    if let Some(turn) = self.take(event) {
                        return turn;
                    }
                }
                () = ended(&mut self.end) => {
                    if let Err(error) = self.look().await {
                        return Turn::Failed(error);
                    }
                }
                () = sleep(KEEP_ALIVE) => {
                    return match self.look().await {
                        Ok(()) if self.ended.is_some() => continue,
                        Ok(()) => Turn::Quiet,
                        Err(error) => Turn::Failed(error),
                    };
                }
                () = stopped.cancelled() => return Turn::Failed(stopping()),
            }
        }
    }

    /// Looks whether the job has ended.
    async fn look(&mut self) -> Result<(), ApiError> {
        // Registered anew before the look: one that was replayed meanwhile ends once more.
        self.end = self.app.hub.end_of(self.waiter.job);
        let job = job(&self.app, self.waiter.job, Bodies::Included).await?;
        if job.state == JobState::Held {
            return Err(held());
        }
        if job.state.is_terminal() {
            self.take_end(job).await;
        }
        Ok(())
    }

    /// Its last events were written before it ended.
    async fn take_end(&mut self, job: JobView) {
        if let Some(reader) = &mut self.reader
            && let Err(error) = reader.read_rest(self.lease_no, self.event_no).await
        {
            tracing::warn!(error = %error, "the rest of a stream can't be read");
        }
        self.ended = Some(job);
    }

    /// What follows from an event; `None`: nothing for the client.
    fn take(&mut self, event: StreamEvent) -> Option<Turn> {
        if (event.lease_no, event.event_no) < (self.lease_no, self.event_no) {
            return None;
        }
        if event.lease_no > self.lease_no {
            if self.has_begun {
                return Some(Turn::Failed(broken_off()));
            }
            (self.lease_no, self.event_no, self.is_complete) = (event.lease_no, 0, false);
        }
        if event.event_no != self.event_no {
            // Its beginning is forgotten, or was never written: then the answer comes whole.
            return self.has_begun.then(|| Turn::Failed(broken_off()));
        }
        self.event_no += 1;
        let Some(data) = event.data else {
            return self.has_begun.then(|| Turn::Failed(broken_off()));
        };
        let chunk = Chunk::of(&data);
        self.is_complete |= chunk.is_last;
        // An error's meaning is the worker's to judge; the job may go on.
        if chunk.is_done || chunk.is_error || (chunk.is_only_usage && !self.wants_usage) {
            return None;
        }
        self.has_begun = true;
        let id = LastEvent { job: self.waiter.job, lease_no: event.lease_no, event_no: event.event_no };
        Some(Turn::Send(numbered(&id, &data)))
    }

    /// What is said at the end of the job.
    fn tail(&mut self, job: &JobView) -> Bytes {
        self.is_over = true;
        self.waiter.is_answered();
        let result = job.result.as_ref();
        match job.state {
            JobState::Succeeded if self.has_begun && self.is_complete => Bytes::from_static(DONE.as_bytes()),
            JobState::Succeeded if self.has_begun => error_event(&broken_off()),
            JobState::Succeeded => {
                let events = result.and_then(|result| chunks::of_completion(&result.body, self.wants_usage));
                events.map_or_else(|| error_event(&broken_off()), Bytes::from)
            }
            state => match result.and_then(|result| as_json(&result.body)) {
                Some(error) if error.get().contains("\"error\"") => {
                    Bytes::from(format!("data: {}\n\n", error.get().replace(['\n', '\r'], " ")))
                }
                _ => error_event(&answer::of_error(state, job.id, job.error.as_ref())),
            },
        }
    }

    fn into_response(self, first: Bytes, origin: Origin) -> Response {
        let rest = futures::stream::unfold(self, |mut forwarder| async move {
            let bytes = forwarder.next_bytes().await?;
            Some((Ok::<_, Infallible>(bytes), forwarder))
        });
        let events = futures::stream::once(async move { Ok(first) }).chain(rest);
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            // Proxies that would gather tokens.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        let mut response = (StatusCode::OK, headers, Body::from_stream(events)).into_response();
        if origin == Origin::Known {
            response.headers_mut().insert(answer::KNOWN, HeaderValue::from_static("true"));
        }
        response
    }

    async fn next_bytes(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        Some(match self.turn().await {
            Turn::Send(bytes) => bytes,
            Turn::Quiet => Bytes::from_static(COMMENT),
            Turn::Ended(job) => self.tail(&job),
            Turn::Failed(error) => {
                self.is_over = true;
                self.waiter.leaves().await;
                error_event(&error)
            }
        })
    }
}

async fn ended(end: &mut watch::Receiver<bool>) {
    // The hub that could tell goes away with the server.
    let _ = end.wait_for(|ended| *ended).await;
}

async fn next_event(reader: Option<&mut StreamReader>) -> StreamEvent {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

fn broken_off() -> ApiError {
    let message = "the answer broke off after its first tokens; what becomes of the call is told by its job";
    ApiError::new(StatusCode::BAD_GATEWAY, "stream_broken", message)
}
