//! One job as a client submits it: REST, bulk lines and the command line share these rules.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use sluice_domain::{
    ApiPath, IdempotencyKey, JobId, MAX_BODY_BYTES, MAX_MAX_ATTEMPTS, ModelName, NewJob, OnUnknown, Priority,
    QueueName, Tags, TenantName, WebhookUrl,
};

use super::{Fields, InputFault, InvalidInput, fields, members::Members};

const KNOWN: [&str; 12] = [
    "path",
    "body",
    "model",
    "queue",
    "priority",
    "idempotency_key",
    "run_at",
    "deadline",
    "max_attempts",
    "on_unknown",
    "tags",
    "webhook",
];

/// How far ahead a job may be scheduled, in days: a week of jobs is kept until the last of them has ended.
const MOST_DAYS_TO_RUN_AT: i64 = 3_653;
/// How far ahead a deadline may lie, in days.
const MOST_DAYS_TO_DEADLINE: i64 = 7_306;

/// The host's clock, for [`parse_submission`]: it judges what a client may ask for, and no lease or schedule.
#[expect(clippy::disallowed_methods, reason = "a client's times are judged when they come in")]
pub fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}

/// Checks one job as JSON (`{path?, body, model?, queue?, …}`) and gives it an id. The body keeps its exact bytes.
/// Times are judged by `now`. The `traceparent` is left to the caller.
pub fn parse_submission(
    document: &[u8],
    tenant: &TenantName,
    now: DateTime<Utc>,
) -> Result<NewJob, InvalidInput> {
    let fields = Fields::of_document(document, &KNOWN)?;
    let webhook = fields.parsed("webhook", WebhookUrl::new)?;
    let body = body(&fields)?;
    let model = model(&fields, body)?;
    let priority = fields.integer("priority", 1..=5)?;
    let (run_at, deadline) = times(&fields, now)?;
    Ok(NewJob {
        id: if webhook.is_some() { JobId::generate_for_webhook() } else { JobId::generate() },
        tenant: tenant.clone(),
        queue: queue(&fields)?,
        path: fields.parsed("path", ApiPath::new)?.unwrap_or_default(),
        model,
        priority: match priority {
            Some(number) => Priority::new(number).map_err(|e| InvalidInput::value("/priority", e))?,
            None => Priority::default(),
        },
        idempotency_key: fields.parsed("idempotency_key", IdempotencyKey::new)?,
        run_at,
        deadline,
        max_attempts: fields
            .integer("max_attempts", 1..=i64::from(MAX_MAX_ATTEMPTS))?
            .map(|most| most as u16),
        on_unknown: on_unknown(&fields)?,
        tags: tags(&fields, "tags")?,
        webhook,
        traceparent: None,
        body: body.get().as_bytes().to_vec(),
    })
}

/// Not before, and not after.
type Times = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn times(fields: &Fields<'_>, now: DateTime<Utc>) -> Result<Times, InvalidInput> {
    let (run_at, deadline) = (fields.time("run_at")?, fields.time("deadline")?);
    let within = |time: DateTime<Utc>, days| time.signed_duration_since(now) <= TimeDelta::days(days);
    if run_at.is_some_and(|start| !within(start, MOST_DAYS_TO_RUN_AT)) {
        return Err(InvalidInput::value("/run_at", "run_at must be within ten years from now"));
    }
    if let Some(end) = deadline {
        if end <= now || !within(end, MOST_DAYS_TO_DEADLINE) {
            return Err(InvalidInput::value(
                "/deadline",
                "deadline must be in the future and within twenty years",
            ));
        }
        if run_at.is_some_and(|start| end <= start) {
            return Err(InvalidInput::value("/deadline", "deadline must be after run_at"));
        }
    }
    Ok((run_at, deadline))
}

fn body<'a>(fields: &Fields<'a>) -> Result<&'a RawValue, InvalidInput> {
    let Some(raw) = fields.raw("body") else {
        let message = "body is missing; it is the request's JSON, such as {\"messages\":[…]}";
        return Err(InvalidInput::at("/body", "missing_field", message));
    };
    if !raw.get().starts_with('{') {
        return Err(fields::wrong_type("/body".to_owned(), "an object", raw));
    }
    if raw.get().len() > MAX_BODY_BYTES {
        return Err(InvalidInput {
            fault: InputFault::TooLarge,
            code: "body_too_large",
            message: format!("body has {} bytes; at most {MAX_BODY_BYTES} are taken", raw.get().len()),
            pointer: Some("/body".to_owned()),
        });
    }
    Ok(raw)
}

/// The model: the field, or else the body's own.
fn model(fields: &Fields<'_>, body: &RawValue) -> Result<ModelName, InvalidInput> {
    let members: Members<'_> = serde_json::from_str(body.get()).map_err(|_| {
        InvalidInput::value(
            "/body",
            "a name in the body holds half of a surrogate pair, which is no character",
        )
    })?;
    if let Some(name) = fields.parsed("model", ModelName::new)? {
        return Ok(name);
    }
    let Some(raw) = members.last("model").filter(|raw| raw.get() != "null") else {
        let message = "model is missing; say it in the job or in its body";
        return Err(InvalidInput::at("/model", "missing_field", message));
    };
    let name = fields::string("/body/model".to_owned(), raw)?;
    ModelName::new(name).map_err(|error| InvalidInput::value("/body/model", error))
}

fn queue(fields: &Fields<'_>) -> Result<QueueName, InvalidInput> {
    let queue = fields.parsed("queue", QueueName::new)?.unwrap_or_default();
    if queue.is_of_a_run() {
        let message = "queues whose names begin with \"run:\" belong to single runs; choose another name";
        return Err(InvalidInput::value("/queue", message));
    }
    Ok(queue)
}

fn on_unknown(fields: &Fields<'_>) -> Result<OnUnknown, InvalidInput> {
    let word = fields.parsed("on_unknown", |word| match word.as_str() {
        "retry" => Ok(OnUnknown::Retry),
        "hold" => Ok(OnUnknown::Hold),
        other => Err(format!("{other:?} is no on_unknown; known are retry, hold")),
    })?;
    Ok(word.unwrap_or_default())
}

pub(super) fn tags(fields: &Fields<'_>, name: &str) -> Result<Tags, InvalidInput> {
    let map = fields.string_map(name)?.unwrap_or_default();
    Tags::new(map).map_err(|error| InvalidInput::value(fields.pointer(name), error))
}
