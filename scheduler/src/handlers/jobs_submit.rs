//! `POST /v1/jobs`: submit one job.

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use sluice_domain::{Conflict, IdempotencyKey, JobView, NewJob};
use sluice_store::Bodies;
use sluice_telemetry::{SubmitFields, is_traceparent, record_submitted_job, submit_span, traceparent_of};
use tracing::Instrument;

use super::answers::{self, json_bytes};
use crate::{
    BodyForm, InvalidInput, job_json,
    job_json::JobObject,
    parse_submission,
    server::{ApiError, App, ErrorBody, MaySubmit, RequestBody},
    submitter::Stored,
    wall_clock,
};

/// Submit a job
///
/// `body` is stored byte for byte. `model` is taken from the body where the job does not say. A repeated submit with the
/// same idempotency key and the same content (path, model, body) answers with the first job.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "jobs",
    security(("api_key" = ["submit"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` in the job")),
    request_body(
        content = super::jobs_submit::Submission,
        example = json!({"body": {"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hello"}]},
                         "priority": 4, "idempotency_key": "order-17", "tags": {"team": "search"}})
    ),
    responses(
        (status = 201, description = "A new job", body = JobObject, example = json!({
            "id": "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "object": "job", "tenant": "default", "queue": "default",
            "path": "/v1/chat/completions", "model": "deepseek-flash", "state": "queued", "priority": 4,
            "attempts": 0, "max_attempts": 3, "generation": 1, "run_at": "2026-10-01T12:00:00.000000Z",
            "deferred_by": null, "created_at": "2026-10-01T12:00:00.000000Z", "started_at": null,
            "finished_at": null, "deadline": null, "idempotency_key": "order-17", "tags": {"team": "search"},
            "result": null, "error": null, "trace_id": "0af7651916cd43dd8448eb211c80319c"})),
        (status = 200, description = "The job that the key was used for before", body = JobObject),
        (status = 400, description = "No JSON object in UTF-8", body = ErrorBody),
        (status = 409, description = "Another submit with the key has not committed; see `Retry-After`", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 422, description = "A field can't be used, or the key was used with another content", body = ErrorBody),
        (status = 429, description = "The key's rate is used up, or too much waits; see `Retry-After`", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn submit(
    MaySubmit(app): MaySubmit,
    headers: HeaderMap,
    RequestBody(body): RequestBody,
) -> Result<Response, ApiError> {
    let mut job = parse_submission(&body, &app.tenant, wall_clock())?;
    drop(body);
    take_key_of_header(&mut job, &headers)?;
    let (job, submitted) = submit_job(&app, job, "rest", traceparent_header(&headers)).await?;
    let status = match submitted {
        Submitted::Created => StatusCode::CREATED,
        Submitted::Existing => StatusCode::OK,
    };
    Ok(json_bytes(status, job_json(&job, &*app.gates().await?, BodyForm::Verbatim)))
}

/// Whether a submit made a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Submitted {
    /// It is new.
    Created,
    /// Its key had been used before with the same content.
    Existing,
}

/// Stores one job that came over `protocol`, as its caller may submit it. `traceparent` is the client's own. A new job is given back as it was stored,
/// whatever workers have made of it since; one that was there before as it stands now.
pub(crate) async fn submit_job(
    app: &App,
    mut job: NewJob,
    protocol: &'static str,
    traceparent: Option<String>,
) -> Result<(JobView, Submitted), ApiError> {
    job = app.permitted(job)?;
    app.check_webhook(&job).await?;
    if let Some(refusal) = app.allowance(1).await?.refusal {
        return Err(refusal);
    }
    let fields = SubmitFields { tenant: app.tenant.as_str(), protocol, jobs: Some(1) };
    let span = submit_span(&fields);
    job.traceparent = traceparent_of(&span).or(traceparent);
    let id = job.id;
    record_submitted_job(&span, &id);
    let submitting = async {
        let stored = app.submitter.submit(job).await?;
        tracing::debug!(job.id = %id, "a job was submitted");
        Ok::<_, ApiError>(stored)
    };
    match submitting.instrument(span).await? {
        Stored::Created { job, created_at } => {
            app.metrics.submitted(protocol, 1);
            let job = match created_at {
                Some(created_at) => job.stored_at(created_at),
                None => answers::job(app, id, Bodies::Included).await.map_err(|error| error.of_submit(id))?,
            };
            Ok((job, Submitted::Created))
        }
        Stored::Existing(id) => Ok((answers::job(app, id, Bodies::Included).await?, Submitted::Existing)),
        Stored::Conflict(conflict) => Err(refused(conflict)),
    }
}

/// A job to submit.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes the JSON, which is read field by field")]
pub(crate) struct Submission {
    /// The API path to call.
    #[schema(default = "/v1/chat/completions")]
    path: Option<String>,
    /// The request's JSON, an object of at most 8 MiB.
    #[schema(value_type = Object)]
    body: serde_json::Value,
    /// The model that routes and limits go by; the body's own where it is left out.
    model: Option<String>,
    /// The line.
    #[schema(default = "default")]
    queue: Option<String>,
    /// 1 to 5, 5 is most urgent.
    #[schema(minimum = 1, maximum = 5, default = 3)]
    priority: Option<u8>,
    /// Makes a repeated submit answer with the first job.
    #[schema(max_length = 255)]
    idempotency_key: Option<String>,
    /// Not before this time.
    run_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Not after this time: the job fails if it still waits then.
    deadline: Option<chrono::DateTime<chrono::Utc>>,
    /// Tries at most; the queue's where it is left out.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<u16>,
    /// What happens when a call was sent and its answer is not known: `retry` calls again, `hold` waits for a person.
    #[schema(default = "retry", pattern = "^(retry|hold)$")]
    on_unknown: Option<String>,
    /// A flat map of strings to filter by.
    tags: Option<std::collections::BTreeMap<String, String>>,
    /// Who is told when the job ends, by the rules of Standard Webhooks: an `https` URL.
    #[schema(max_length = 2048, example = "https://example.com/hooks/sluice")]
    webhook: Option<String>,
}

/// The header and the field mean the same; where both are there, they must say the same.
fn take_key_of_header(job: &mut NewJob, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(()) };
    let refuse = |message: &str| ApiError::from(InvalidInput::value("Idempotency-Key", message));
    let text = std::str::from_utf8(header.as_bytes()).map_err(|_| refuse("the header is not UTF-8"))?;
    let key = IdempotencyKey::new(text).map_err(|error| refuse(&error.to_string()))?;
    if job.idempotency_key.as_ref().is_some_and(|field| *field != key) {
        return Err(refuse("the header and the field idempotency_key differ"));
    }
    job.idempotency_key = Some(key);
    Ok(())
}

/// The client's own `traceparent`, for a server that traces nothing itself.
pub(crate) fn traceparent_header(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    is_traceparent(text).then(|| text.trim().to_owned())
}

/// Why a keyed submit was refused.
pub(crate) fn refused(conflict: Conflict) -> ApiError {
    match conflict {
        Conflict::OtherContent(id) => {
            let message =
                format!("the idempotency key was used by job {id} with another path, model or body");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
                .param("/idempotency_key")
        }
        Conflict::KeyInUse => {
            let message = "another submit with this idempotency key has not committed yet; try again";
            ApiError::new(StatusCode::CONFLICT, "idempotency_key_in_use", message)
                .param("/idempotency_key")
                .retry_after(1)
        }
    }
}
