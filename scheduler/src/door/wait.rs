//! One call from its request to its answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use sluice_domain::{ApiPath, JobId, JobState, JobView, Priority};
use sluice_store::Bodies;
use tokio::sync::watch;

use super::{
    answer::{self, Origin},
    event::LastEvent,
    left::{self, LEFT_WINDOW, Waiter},
    stream,
};
use crate::{
    InputFault, InvalidInput,
    handlers::{
        answers::job,
        jobs_submit::{Submitted, submit_job, traceparent_header},
    },
    input::{AnswerForm, CallWishes, NewCall, parse_call},
    server::{ApiError, App, READ_PATIENCE, asked},
    wall_clock,
};

/// A job that is held ends no wait by itself: so often is looked whether the job is.
const LOOK_FOR_HOLD: Duration = Duration::from_mins(1);

/// A request as it came in.
pub(crate) struct Incoming {
    /// Where it came in, which is also the path that is called.
    pub(crate) path: &'static str,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// The provider's request.
    pub(crate) body: Bytes,
}

/// Stores the call, waits for the job's end and answers with what the provider said.
pub(crate) async fn answer(app: &App, incoming: Incoming) -> Result<Response, ApiError> {
    let Incoming { path, headers, body } = incoming;
    let wishes = CallWishes::of(&headers, Priority::default(), wall_clock()).map_err(refused)?;
    let call =
        parse_call(&body, ApiPath::from_stored(path.to_owned()), &app.tenant, wishes).map_err(refused)?;
    drop(body);
    let form = call.form;
    let begun = match stream::last_event(&headers)? {
        Some(last) if form != AnswerForm::Whole => {
            let fingerprint = left::fingerprint(&call.job, &headers);
            let waiter = app.left_calls.watch(last.job, fingerprint);
            Begun { resumed: Some(last), ..look(app, waiter).await? }
        }
        _ => begin(app, call, &headers).await?,
    };
    match form {
        AnswerForm::Whole => Ok(whole(app, begun).await),
        AnswerForm::Stream { wants_usage } => Ok(stream::answer(app, begun, wants_usage).await),
    }
}

/// Passes the tokens of a job on to somebody who did not submit it, or comes back.
pub(crate) async fn follow(app: &App, id: JobId, headers: &HeaderMap) -> Result<Response, ApiError> {
    let resumed = stream::last_event(headers)?.filter(|last| last.job == id);
    let waiter = app.left_calls.watch(id, None);
    let begun = Begun { resumed, ..look(app, waiter).await? };
    let wants_usage = true;
    Ok(stream::answer(app, begun, wants_usage).await)
}

async fn whole(app: &App, mut begun: Begun) -> Response {
    let id = begun.waiter.job;
    let ended = match begun.ended {
        Some(job) => Ok(job),
        None => end_of(app, id, begun.end).await,
    };
    match ended {
        Ok(job) => {
            begun.waiter.is_answered();
            answer::of_job(job, AnswerForm::Whole, begun.origin)
        }
        Err(error) => {
            // Whoever is told to ask again must find the note.
            begun.waiter.leaves().await;
            answer::named(error.into_response(), id)
        }
    }
}

/// A call that is stored.
pub(super) struct Begun {
    pub(super) waiter: Waiter,
    pub(super) origin: Origin,
    /// Turns true at the job's end.
    pub(super) end: watch::Receiver<bool>,
    /// The job, where it has ended already.
    pub(super) ended: Option<JobView>,
    /// After which event its stream goes on; `None`: from the start.
    pub(super) resumed: Option<LastEvent>,
}

async fn begin(app: &App, call: NewCall, headers: &HeaderMap) -> Result<Begun, ApiError> {
    let fingerprint = left::fingerprint(&call.job, headers);
    if let Some(fingerprint) = fingerprint
        && left::is_repeated(headers)
        && let Some(id) = asked(READ_PATIENCE, app.store.left_call_take(&fingerprint, LEFT_WINDOW)).await?
    {
        let waiter = app.left_calls.watch(id, Some(fingerprint));
        match look(app, waiter).await {
            Ok(begun) => {
                tracing::debug!(job.id = %id, "a repeated request joined the job of the first");
                return Ok(begun);
            }
            // Its client went away before it was stored.
            Err(error) if error.status() == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    // From before it is stored: a client may go away in between.
    let mut waiter = app.left_calls.watch(call.job.id, fingerprint);
    // Registered before it is stored, so that its end can't be missed, and needs no look.
    let end = app.hub.end_of(call.job.id);
    match submit_job(app, call.job, "openai", traceparent_header(headers)).await {
        Ok((_, Submitted::Created)) => {
            Ok(Begun { waiter, origin: Origin::New, end, ended: None, resumed: None })
        }
        Ok((job, Submitted::Existing)) => {
            waiter.job = job.id;
            look(app, waiter).await
        }
        Err(error) => {
            if error.status().is_client_error() {
                waiter.is_answered();
            } else {
                // It may be stored all the same.
                waiter.leaves().await;
            }
            Err(error)
        }
    }
}

/// Waits for a job that was there before.
async fn look(app: &App, mut waiter: Waiter) -> Result<Begun, ApiError> {
    // Registered before the look: an end in between is told.
    let end = app.hub.end_of(waiter.job);
    match job(app, waiter.job, Bodies::Included).await {
        Ok(job) => {
            let ended = job.state.is_terminal().then_some(job);
            Ok(Begun { waiter, origin: Origin::Known, end, ended, resumed: None })
        }
        Err(error) => {
            if error.status() == StatusCode::NOT_FOUND {
                waiter.is_answered();
            }
            Err(error)
        }
    }
}

/// The job after its end. Holds no database connection meanwhile.
async fn end_of(app: &App, id: JobId, mut end: watch::Receiver<bool>) -> Result<JobView, ApiError> {
    loop {
        tokio::select! {
            _ = end.wait_for(|ended| *ended) => {}
            () = tokio::time::sleep(LOOK_FOR_HOLD) => {}
            () = app.stopping.cancelled() => return Err(stopping()),
        }
        // Registered anew before the look: one that was replayed meanwhile ends once more.
        end = app.hub.end_of(id);
        let job = job(app, id, Bodies::Included).await?;
        match job.state {
            state if state.is_terminal() => return Ok(job),
            JobState::Held => return Err(held()),
            _ => {}
        }
    }
}

pub(super) fn held() -> ApiError {
    let message = "the call is held until a person decides what becomes of it: its outcome is not known, or it crashed \
                   what worked on it";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "job_held", message).not_to_be_repeated()
}

pub(super) fn stopping() -> ApiError {
    let message = "this server stops; the call goes on, and is answered to who asks again";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_stops", message).retry_after(1)
}

/// OpenAI answers 400 where a field is wrong.
fn refused(invalid: InvalidInput) -> ApiError {
    let fault = match invalid.fault {
        InputFault::Invalid => InputFault::Malformed,
        fault => fault,
    };
    InvalidInput { fault, ..invalid }.into()
}
