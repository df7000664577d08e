//! `POST /v1/batches`: make a batch of a file.

use std::time::Duration;

use axum::Json;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sluice_domain::{BatchId, FileId, NotPermitted, Priority};
use sluice_store::NewBatch;

use super::{
    batch_object::{BatchObject, batch},
    file_object::not_found,
};
use crate::{
    InvalidInput,
    input::{CallWishes, Fields},
    server::{ApiError, App, ErrorBody, MaySubmit, READ_PATIENCE, RequestBody, asked},
    wall_clock,
};

const KNOWN: [&str; 5] =
    ["input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"];
/// What the lines of a batch may call.
const ENDPOINTS: [&str; 4] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations"];
/// The longest window.
const MAX_WINDOW: Duration = Duration::from_hours(30 * 24);
const MAX_PAIRS: usize = 16;
const MAX_KEY_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;

/// Create a batch
///
/// Its file is checked first: with a wrong line, the batch is `failed` and nothing is called. Then each line is an ordinary job, with
/// the tags `batch_id` and `custom_id`, in the queue and with the priority that the headers say (2 where they say nothing, behind
/// single calls). OpenAI knows the window `24h` alone; here it may be any duration up to thirty days.
#[utoipa::path(
    post,
    path = "/v1/batches",
    tag = "openai",
    params(
        ("x-sluice-queue" = Option<String>, Header, description = "The line of its jobs"),
        ("x-sluice-priority" = Option<u8>, Header, description = "1 to 5; 2 where it is left out"),
    ),
    request_body(content = Object, description = "`input_file_id`, `endpoint`, `completion_window`, and perhaps `metadata` and `output_expires_after`",
        example = json!({"input_file_id": "file-0199a1b2c3d47e5f8a9b0c1d2e3f4a5b", "endpoint": "/v1/chat/completions",
                         "completion_window": "24h"})),
    security(("api_key" = ["submit"])),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = 400, description = "A field can't be used", body = ErrorBody),
        (status = 404, description = "No such file", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    MaySubmit(app): MaySubmit,
    headers: HeaderMap,
    RequestBody(body): RequestBody,
) -> Result<Json<BatchObject>, ApiError> {
    app.must_reach_files()?;
    let usual = Priority::new(2).unwrap_or_default();
    let wishes = CallWishes::of(&headers, usual, wall_clock()).map_err(refused)?;
    let mut new = parse(&body, &app, wishes).map_err(refused)?;
    let top = app.caller.rights.top_priority;
    if new.priority > top {
        if new.priority != usual {
            return Err(NotPermitted::Priority { asked: new.priority, top }.into());
        }
        new.priority = top;
    }
    let file = asked(READ_PATIENCE, app.store.file(&app.tenant, new.input_file)).await?;
    if file.is_none() {
        return Err(not_found(&new.input_file.to_string()).param("input_file_id"));
    }
    asked(READ_PATIENCE, app.store.batch_submit(&new)).await?;
    app.batch_bell.ring();
    Ok(Json(batch(&app, new.id).await?.into()))
}

/// OpenAI answers 400 where a field is wrong.
fn refused(invalid: InvalidInput) -> ApiError {
    let error = ApiError::new(StatusCode::BAD_REQUEST, invalid.code, invalid.message);
    match invalid.pointer {
        Some(pointer) => error.param(pointer),
        None => error,
    }
}

fn parse(body: &[u8], app: &App, wishes: CallWishes) -> Result<NewBatch, InvalidInput> {
    let fields = Fields::of_document(body, &KNOWN)?;
    let needed = |name: &str| {
        let value = fields.string(name)?;
        value.ok_or_else(|| {
            InvalidInput::at(fields.pointer(name), "missing_field", format!("{name} is missing"))
        })
    };
    let input_file: FileId =
        needed("input_file_id")?.parse().map_err(|error| InvalidInput::value("/input_file_id", error))?;
    let endpoint = needed("endpoint")?;
    if !ENDPOINTS.contains(&endpoint.as_str()) {
        let message = format!("endpoint must be one of {}", ENDPOINTS.join(", "));
        return Err(InvalidInput::value("/endpoint", message));
    }
    let completion_window = needed("completion_window")?;
    Ok(NewBatch {
        id: BatchId::generate(),
        tenant: app.tenant.clone(),
        endpoint,
        input_file,
        window: window(&completion_window)?,
        completion_window,
        metadata: metadata(&fields)?,
        queue: wishes.queue,
        priority: wishes.priority,
        output_expires_s: output_life(&fields)?,
    })
}

fn window(text: &str) -> Result<Duration, InvalidInput> {
    let window = humantime::parse_duration(text).ok();
    let is_usable = |window: &Duration| *window >= Duration::from_secs(1) && *window <= MAX_WINDOW;
    window.filter(is_usable).ok_or_else(|| {
        InvalidInput::value(
            "/completion_window",
            "completion_window must be a duration such as 24h, of at most 30d",
        )
    })
}

fn metadata(fields: &Fields<'_>) -> Result<Option<Value>, InvalidInput> {
    let Some(pairs) = fields.string_map("metadata")? else { return Ok(None) };
    let is_long = pairs.iter().any(|(key, value)| {
        key.chars().count() > MAX_KEY_CHARS || key.contains('\0') || value.chars().count() > MAX_VALUE_CHARS
    });
    if is_long || pairs.len() > MAX_PAIRS {
        let message = format!(
            "metadata may have {MAX_PAIRS} pairs, keys of {MAX_KEY_CHARS} and values of {MAX_VALUE_CHARS} characters"
        );
        return Err(InvalidInput::value("/metadata", message));
    }
    Ok(Some(json!(pairs)))
}

fn output_life(fields: &Fields<'_>) -> Result<Option<u32>, InvalidInput> {
    let Some(life) = fields.object("output_expires_after", &["anchor", "seconds"])? else { return Ok(None) };
    if life.string("anchor")?.as_deref() != Some("created_at") {
        let message = "output_expires_after.anchor must be created_at";
        return Err(InvalidInput::value("/output_expires_after/anchor", message));
    }
    let seconds = life.integer("seconds", 3_600..=2_592_000)?;
    let missing = "output_expires_after.seconds is missing";
    let seconds =
        seconds.ok_or_else(|| InvalidInput::at("/output_expires_after/seconds", "missing_field", missing))?;
    Ok(Some(seconds as u32))
}
