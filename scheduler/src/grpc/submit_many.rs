//! `SubmitMany`: jobs are stored in batches while they come, as by REST's bulk submit, and answered together.
//!
//! The one answer holds a result for each job, so its size is bounded by ending the stream early: gRPC lets a server
//! answer before the client has sent everything, and the answer says how far it came. An error instead of the answer
//! would hide which jobs were stored.

use http::StatusCode;
use sluice_domain::{JobId, NewJob, SubmitOutcome};
use sluice_proto::v1::{SubmitError, SubmitManyResponse, SubmitRequest, SubmitResult, SubmitStatus};
use sluice_telemetry::{SubmitFields, submit_span, traceparent_of};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Status, Streaming};
use tracing::Instrument;

use super::{service::PROTOCOL, status::code_of, submission};
use crate::{
    handlers::{
        jobs_bulk::{BATCH_BYTES, BATCH_LINES, BATCH_WAIT, submit_batch},
        jobs_submit::refused,
    },
    server::{ApiError, App, MAX_REQUEST_BYTES},
};

/// Jobs of one call. An answer about so many stays below the 4 MiB that clients take by default.
const MAX_JOBS: u64 = 50_000;

/// Stores the jobs of a stream.
pub(super) async fn submit_many(
    app: &App,
    requests: Streaming<SubmitRequest>,
    traceparent: Option<String>,
) -> SubmitManyResponse {
    let span = submit_span(&SubmitFields { tenant: app.tenant.as_str(), protocol: PROTOCOL, jobs: None });
    let traceparent = traceparent_of(&span).or(traceparent);
    let intake = Intake { app, requests, traceparent, next_index: 0 };
    let answers = Answers { app, response: SubmitManyResponse::default() };
    run(intake, answers).instrument(span).await
}

/// Reads batches while those before are stored.
async fn run(mut intake: Intake<'_>, mut answers: Answers<'_>) -> SubmitManyResponse {
    // One batch waits, so that neither side stands still while the other changes over.
    let (full, mut batches) = mpsc::channel(1);
    let reading = async move {
        loop {
            let batch = intake.gather().await;
            let is_last = batch.is_last;
            if full.send(batch).await.is_err() || is_last {
                return;
            }
        }
    };
    let storing = async {
        while let Some(batch) = batches.recv().await {
            answers.store(batch).await;
        }
    };
    tokio::join!(reading, storing);
    answers.response
}

/// What comes in.
struct Intake<'a> {
    app: &'a App,
    requests: Streaming<SubmitRequest>,
    traceparent: Option<String>,
    next_index: u64,
}

/// What became of it.
struct Answers<'a> {
    app: &'a App,
    response: SubmitManyResponse,
}

/// The jobs that are stored together: each with its place, and its id or why it was refused.
#[derive(Default)]
struct Batch {
    places: Vec<(u64, Result<JobId, ApiError>)>,
    /// The jobs of the good places, in their order.
    jobs: Vec<NewJob>,
    bytes: usize,
    is_last: bool,
}

impl Intake<'_> {
    /// Reads jobs until the batch is full, its time is over, or there are no more.
    async fn gather(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut until: Option<Instant> = None;
        while batch.places.len() < BATCH_LINES && batch.bytes < BATCH_BYTES && !batch.is_last {
            let next = match until {
                None => self.next().await,
                Some(until) => match tokio::time::timeout_at(until, self.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            self.take(next, &mut batch).await;
            until = until.or_else(|| (!batch.places.is_empty()).then(|| Instant::now() + BATCH_WAIT));
        }
        batch
    }

    /// The next message; `None` at the end. What was read of a message stays with the stream when this is dropped.
    async fn next(&mut self) -> Option<Result<SubmitRequest, ApiError>> {
        match tokio::time::timeout(self.app.limits.body_timeout, self.requests.message()).await {
            Ok(Ok(request)) => request.map(Ok),
            Ok(Err(status)) => Some(Err(unreadable(&status))),
            Err(_) => Some(Err(broken("no job came for too long"))),
        }
    }

    async fn take(&mut self, next: Option<Result<SubmitRequest, ApiError>>, batch: &mut Batch) {
        let Some(read) = next else {
            batch.is_last = true;
            return;
        };
        let index = self.next_index;
        self.next_index += 1;
        // After a message that can't be read, the stream has no further ones.
        batch.is_last = read.is_err() || self.next_index == MAX_JOBS;
        let checked =
            read.and_then(|request| self.app.permitted(submission::job_of(&request, &self.app.tenant)?));
        let checked = match checked {
            Ok(job) => self.app.check_webhook(&job).await.map(|()| job),
            refused => refused,
        };
        let kept = checked.map(|mut job| {
            job.traceparent.clone_from(&self.traceparent);
            batch.bytes += job.body.len();
            let id = job.id;
            batch.jobs.push(job);
            id
        });
        batch.places.push((index, kept));
    }
}

impl Answers<'_> {
    /// Stores a batch.
    async fn store(&mut self, batch: Batch) {
        let mut outcomes = submit_batch(self.app, &batch.jobs, PROTOCOL).await.into_iter();
        for (index, kept) in batch.places {
            let (id, outcome) = match kept {
                Ok(id) => (Some(id), outcomes.next().unwrap_or_else(|| Err(ApiError::internal()))),
                Err(refusal) => (None, Err(refusal)),
            };
            self.answer(index, id, outcome);
        }
    }

    /// `id`: what the job has, or would have.
    fn answer(&mut self, index: u64, id: Option<JobId>, outcome: Result<SubmitOutcome, ApiError>) {
        let (id, outcome) = match outcome {
            Ok(SubmitOutcome::Created(id)) => (Some(id), Ok(SubmitStatus::Created)),
            Ok(SubmitOutcome::Existing(id)) => (Some(id), Ok(SubmitStatus::Existing)),
            Ok(SubmitOutcome::Conflict(conflict)) => (None, Err(refused(conflict))),
            Err(error) => (id.filter(|_| error.status().is_server_error()), Err(error)),
        };
        *match outcome {
            Ok(SubmitStatus::Created) => &mut self.response.created,
            Ok(_) => &mut self.response.existing,
            Err(_) => &mut self.response.refused,
        } += 1;
        let (status, error) = match outcome {
            Ok(status) => (status, None),
            Err(error) => (SubmitStatus::Unspecified, Some(error_message(&error))),
        };
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        self.response.results.push(SubmitResult { index, id, status: status.into(), error });
    }
}

fn error_message(error: &ApiError) -> SubmitError {
    SubmitError {
        status_code: code_of(error) as i32,
        code: error.code().to_owned(),
        message: error.message().to_owned(),
        param: error.culprit().map(str::to_owned),
    }
}

/// Why there is no further message.
fn unreadable(status: &Status) -> ApiError {
    if status.code() == Code::OutOfRange {
        let message = format!("the message has more than {MAX_REQUEST_BYTES} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message);
    }
    tracing::debug!(error = %status, "a stream of jobs broke");
    broken("the stream broke off, or holds what is no message")
}

fn broken(why: &'static str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "incomplete_body", why)
}
