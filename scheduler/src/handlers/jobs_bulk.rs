//! `POST /v1/jobs/bulk`: submit many jobs, a line of JSON each, answered with a line each as they are stored.
//!
//! Lines are stored in batches of at most 500, or whatever came within 10 ms, in one statement each. When a statement
//! fails, the database is asked which of its jobs it holds; each other line is answered with the error and the id that
//! its job has if it was stored all the same. Answers wait in memory (about
//! 10 MB of them) for clients that send everything before they read; then the upload is slowed down.

use std::{collections::HashSet, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use sluice_domain::{JobId, NewJob, SubmitOutcome};
use sluice_store::Bodies;
use sluice_telemetry::{SubmitFields, submit_span, traceparent_of};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{Instrument, Span};
use utoipa::ToSchema;

use super::{
    bulk_lines::{Lines, NextLine},
    jobs_submit::{refused, traceparent_header},
};
use crate::{
    InputFault, InvalidInput,
    access::Allowed,
    parse_submission,
    server::{ApiError, App, ErrorBody, MAX_REQUEST_BYTES, MaySubmit, READ_PATIENCE, SCAN_PATIENCE, asked},
    wall_clock,
};

pub(crate) const BATCH_LINES: usize = 500;
/// A batch is stored when its bodies have so many bytes.
pub(crate) const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// A batch is stored so long after its first line came.
pub(crate) const BATCH_WAIT: Duration = Duration::from_millis(10);
/// Answers of so many batches wait for a client that does not read yet.
const WAITING_ANSWERS: usize = 200;

/// The answer to one line.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkAnswer)]
pub(crate) struct Answer<'a> {
    /// The line's number, from 1. Empty lines count and are not answered.
    line: u64,
    /// The job; beside an error the id that it has if it was stored all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    id: Option<JobId>,
    /// `created`, or `existing` for a key that was used before with the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// Why the line was refused.
    #[serde(flatten)]
    error: Option<ErrorBody<'a>>,
}

/// Submit many jobs
///
/// NDJSON both ways: a line of answer for each line, in order, while the upload goes on. A line that is refused stops
/// none of the others. Where the upload or the database breaks, the lines without an answer were not read; repeat them.
#[utoipa::path(
    post,
    path = "/v1/jobs/bulk",
    tag = "jobs",
    security(("api_key" = ["submit"])),
    request_body(
        content = String,
        content_type = "application/x-ndjson",
        description = "A job a line, each as in `POST /v1/jobs`",
        example = json!("{\"body\":{\"model\":\"deepseek-flash\",\"messages\":[]}}\n{\"body\":{\"model\":\"deepseek-flash\",\"messages\":[]},\"priority\":9}\n")
    ),
    responses(
        (status = 200, description = "An answer a line", body = Answer, content_type = "application/x-ndjson",
         example = json!({"line": 1, "id": "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "status": "created"})),
    )
)]
pub(crate) async fn submit_bulk(MaySubmit(app): MaySubmit, headers: HeaderMap, body: Body) -> Response {
    let fields = SubmitFields { tenant: app.tenant.as_str(), protocol: "rest", jobs: None };
    let span = submit_span(&fields);
    let traceparent = traceparent_of(&span).or_else(|| traceparent_header(&headers));
    let lines = Lines::new(body.into_data_stream(), MAX_REQUEST_BYTES, app.limits.body_timeout);
    let (answers, answered) = mpsc::channel(WAITING_ANSWERS);
    let store = Storing { app: app.clone(), answers };
    let intake = Intake { app, lines, traceparent, line: 0 };
    // Ends when the client goes away: the answers can't be sent any more. Parsing of large lines stays off the
    // connection's own task.
    tokio::spawn(run(intake, store).instrument(span));
    let body = Body::from_stream(ReceiverStream::new(answered));
    (StatusCode::OK, [(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response()
}

struct Intake {
    app: App,
    lines: Lines,
    traceparent: Option<String>,
    /// The number of the last line.
    line: u64,
}

struct Storing {
    app: App,
    answers: mpsc::Sender<Result<Bytes, std::convert::Infallible>>,
}

/// The lines that are stored together: each with its number, and its job or why it was refused.
#[derive(Default)]
struct Batch {
    lines: Vec<(u64, Result<JobId, ApiError>)>,
    /// The jobs of the good lines, in their order.
    jobs: Vec<NewJob>,
    bytes: usize,
    is_last: bool,
}

/// Reads batches while those before are stored.
async fn run(mut intake: Intake, storing: Storing) {
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
    let storing = async move {
        while let Some(batch) = batches.recv().await {
            let answer = storing.store(batch).await;
            if !answer.is_empty() && storing.answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, storing);
}

impl Intake {
    /// Reads lines until the batch is full, its time is over, or there are no more.
    async fn gather(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut until: Option<Instant> = None;
        while batch.lines.len() < BATCH_LINES && batch.bytes < BATCH_BYTES && !batch.is_last {
            let next = match until {
                None => self.lines.next().await,
                Some(until) => match tokio::time::timeout_at(until, self.lines.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            self.take(next, &mut batch).await;
            until = until.or_else(|| (!batch.lines.is_empty()).then(|| Instant::now() + BATCH_WAIT));
        }
        batch
    }

    async fn take(&mut self, next: NextLine, batch: &mut Batch) {
        self.line += 1;
        let read = match next {
            NextLine::Line(line) if line.trim_ascii().is_empty() => return,
            NextLine::Line(line) => {
                let checked = parse_submission(&line, &self.app.tenant, wall_clock());
                match checked.map_err(ApiError::from).and_then(|job| self.app.permitted(job)) {
                    Ok(job) => self.app.check_webhook(&job).await.map(|()| job),
                    refused => refused,
                }
            }
            NextLine::TooLong => Err(too_long().into()),
            NextLine::End => {
                batch.is_last = true;
                return;
            }
            NextLine::Broken(why) => {
                batch.is_last = true;
                Err(ApiError::new(StatusCode::BAD_REQUEST, "incomplete_body", why))
            }
        };
        let kept = read.map(|mut job| {
            job.traceparent.clone_from(&self.traceparent);
            batch.bytes += job.body.len();
            let id = job.id;
            batch.jobs.push(job);
            id
        });
        batch.lines.push((self.line, kept));
    }
}

impl Storing {
    /// Stores a batch and writes its answers.
    async fn store(&self, batch: Batch) -> Bytes {
        let mut outcomes = submit_batch(&self.app, &batch.jobs, "rest").await.into_iter();
        let mut written = Vec::new();
        for (line, kept) in batch.lines {
            let (id, outcome) = match kept {
                Ok(id) => (Some(id), outcomes.next().unwrap_or_else(|| Err(ApiError::internal()))),
                Err(refusal) => (None, Err(refusal)),
            };
            write_answer(&mut written, line, id, outcome);
        }
        written.into()
    }
}

/// Stores jobs that came over `protocol` in one statement, as many of them as their caller may submit now; says of each
/// what became of it.
pub(crate) async fn submit_batch(
    app: &App,
    jobs: &[NewJob],
    protocol: &'static str,
) -> Vec<Result<SubmitOutcome, ApiError>> {
    if jobs.is_empty() {
        return Vec::new();
    }
    let (allowed, refusal) = match allowed(app, jobs.len()).await {
        Ok(Allowed { jobs, refusal: None }) => (jobs, ApiError::internal()),
        Ok(Allowed { jobs, refusal: Some(refusal) }) => (jobs, refusal),
        Err(refusal) => (0, refusal),
    };
    let (now, later) = jobs.split_at(allowed.min(jobs.len()));
    let mut outcomes = if now.is_empty() { Vec::new() } else { store_batch(app, now, protocol).await };
    outcomes.extend(later.iter().map(|_| Err(refusal.clone())));
    outcomes
}

/// An upload may take hours, and its key be revoked meanwhile.
async fn allowed(app: &App, jobs: usize) -> Result<Allowed, ApiError> {
    app.still_admitted().await?;
    app.allowance(jobs).await
}

async fn store_batch(
    app: &App,
    jobs: &[NewJob],
    protocol: &'static str,
) -> Vec<Result<SubmitOutcome, ApiError>> {
    // Jobs whose keys others hold uncommitted are stored one by one, which may take long.
    let outcomes: Vec<_> = match asked(SCAN_PATIENCE, app.store.submit_many(jobs)).await {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error) => stored_all_the_same(app, jobs, &error).await,
    };
    let created = outcomes.iter().filter(|outcome| matches!(outcome, Ok(SubmitOutcome::Created(_)))).count();
    if created > 0 {
        app.ready_bell.ring();
        app.metrics.submitted(protocol, created as u64);
        Span::current().in_scope(|| tracing::debug!(jobs = created, "jobs were submitted in bulk"));
    }
    outcomes
}

/// Which jobs the database holds although their statement got no answer.
async fn stored_all_the_same(
    app: &App,
    jobs: &[NewJob],
    error: &ApiError,
) -> Vec<Result<SubmitOutcome, ApiError>> {
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let looked_up = asked(READ_PATIENCE, app.store.jobs_by_id(&ids, Bodies::LeftOut)).await;
    let stored: HashSet<JobId> = looked_up.unwrap_or_default().iter().map(|job| job.id).collect();
    let outcome = |id| {
        if stored.contains(&id) { Ok(SubmitOutcome::Created(id)) } else { Err(error.clone().of_submit(id)) }
    };
    ids.into_iter().map(outcome).collect()
}

/// `id`: what the line's job has, or would have.
fn write_answer(
    written: &mut Vec<u8>,
    line: u64,
    id: Option<JobId>,
    outcome: Result<SubmitOutcome, ApiError>,
) {
    let (id, outcome) = match outcome {
        Ok(SubmitOutcome::Created(id)) => (Some(id), Ok("created")),
        Ok(SubmitOutcome::Existing(id)) => (Some(id), Ok("existing")),
        Ok(SubmitOutcome::Conflict(conflict)) => (None, Err(refused(conflict))),
        // A refusal that is the client's own was made before anything was stored.
        Err(error) => (id.filter(|_| error.status().is_server_error()), Err(error)),
    };
    let (status, error) = match &outcome {
        Ok(status) => (Some(*status), None),
        Err(error) => (None, Some(error.body())),
    };
    let answer = Answer { line, id, status, error };
    // Writing into memory does not fail, and the answer is made of strings and numbers.
    serde_json::to_writer(&mut *written, &answer).expect("an answer is serialisable");
    written.push(b'\n');
}

fn too_long() -> InvalidInput {
    InvalidInput {
        fault: InputFault::TooLarge,
        code: "line_too_large",
        message: format!("the line has more than {MAX_REQUEST_BYTES} bytes"),
        pointer: None,
    }
}
