//! One line: from bytes to a request, or to the reason why not. Reasons read after "line 7".

use std::fmt::Write;

use serde_json::value::RawValue;
use sluice_domain::{ApiPath, MAX_BODY_BYTES, ModelName, Priority};

use super::{
    field::{Fields, kind, quoted, text},
    fill_in::FillIn,
    request::{MAX_ID_BYTES, Request},
    scan, short_form,
};

/// What can be called, below `/v1` or DeepSeek's `/beta`.
const KNOWN_PATHS: [&str; 6] =
    ["/chat/completions", "/completions", "/embeddings", "/images/generations", "/moderations", "/responses"];
const BATCH_FIELDS: [&str; 5] = ["custom_id", "method", "url", "body", "priority"];

/// Reads a line; `None` where it is blank.
pub fn parse(line: &[u8], line_no: u64, fill_in: &FillIn) -> Result<Option<Request>, String> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim_matches([' ', '\t', '\r']),
        Err(error) => {
            let at = error.valid_up_to();
            return Err(format!("is not UTF-8: byte 0x{:02x} at column {}", line[at], at + 1));
        }
    };
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(problem) = scan::problem_of(text) {
        return Err(problem);
    }
    if !text.starts_with('{') {
        return Err("is no JSON object such as {\"prompt\": \"…\"}".to_owned());
    }
    let fields = Fields::parse(text, "")?;
    let is_batch = ["body", "url", "method"].iter().any(|name| fields.get(name).is_some());
    let is_record = fill_in.template.is_some() && fields.get("messages").is_none();
    // In a record, `body` or `url` may well be data; only a whole batch line counts as one.
    let is_batch = is_batch && (!is_record || (fields.get("body").is_some() && fields.get("url").is_some()));
    let request = if is_batch {
        batch_line(&fields, line_no, fill_in)?
    } else {
        short_form::request(&fields, line_no, fill_in)?
    };
    if request.body.len() > MAX_BODY_BYTES {
        let size = request.body.len() as f64 / (1024.0 * 1024.0);
        return Err(format!("has a body of {size:.1} MiB; at most {} MiB are allowed", MAX_BODY_BYTES >> 20));
    }
    Ok(Some(request))
}

/// `{"custom_id","method":"POST","url","body":{…}}`.
fn batch_line(fields: &Fields<'_>, line_no: u64, fill_in: &FillIn) -> Result<Request, String> {
    if let Some((name, _)) = fields.0.iter().find(|(name, _)| !BATCH_FIELDS.contains(&name.as_str())) {
        return Err(format!("has the unknown field {name:?}; a batch line has {}", BATCH_FIELDS.join(", ")));
    }
    let method = fields.get("method").map(|value| text("method", value)).transpose()?;
    if method.as_deref().is_some_and(|method| method != "POST") {
        return Err(format!("has the method {:?}; only \"POST\" is possible", method.unwrap_or_default()));
    }
    let url = fields.get("url").ok_or("has no url, such as \"/v1/chat/completions\"")?;
    let path = api_path(&text("url", url)?)?;
    let body = fields.get("body").ok_or("has no body")?;
    if !body.get().starts_with('{') {
        return Err(format!("body must be an object, not {}", kind(body)));
    }
    let body_fields = Fields::parse(body.get(), "body ")?;
    check_body(&path, &body_fields)?;
    let (model, body) = match (body_fields.get("model"), &fill_in.model) {
        (Some(model), _) => (model_name(model)?, body.get().as_bytes().to_vec()),
        (None, Some(model)) => (model.clone(), with_model(&body_fields, model)),
        (None, None) => return Err("has no model in its body; add it, or give --model".to_owned()),
    };
    let own_id = own_id(fields)?;
    Ok(Request { line_no, own_id, path, model, priority: priority(fields)?, body })
}

/// The body with a model before what it has.
fn with_model(body: &Fields<'_>, model: &ModelName) -> Vec<u8> {
    let mut json = format!("{{\"model\":{}", quoted(model.as_str()));
    for (name, value) in body.0.iter().filter(|(name, _)| name != "model") {
        // Writing to memory does not fail.
        let _ = write!(json, ",{}:{}", quoted(name), value.get());
    }
    json.push('}');
    json.into_bytes()
}

/// What every upstream would refuse. The rest is theirs to judge.
fn check_body(path: &ApiPath, body: &Fields<'_>) -> Result<(), String> {
    let needed = match path.as_str().trim_start_matches("/v1").trim_start_matches("/beta") {
        "/chat/completions" => "messages",
        "/completions" | "/images/generations" => "prompt",
        _ => "input",
    };
    let value = body.get(needed).ok_or_else(|| format!("body has no {needed}"))?;
    if needed == "messages" { check_messages(value) } else { Ok(()) }
}

/// Checks that it is a list of messages, each with a role.
pub fn check_messages(value: &RawValue) -> Result<(), String> {
    if !value.get().starts_with('[') {
        return Err(format!("messages must be a list, not {}", kind(value)));
    }
    let messages: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
    if messages.is_empty() {
        return Err("messages must not be empty".to_owned());
    }
    for (at, message) in messages.into_iter().enumerate() {
        let whose = format!("messages[{at}] ");
        if !message.get().starts_with('{') {
            return Err(format!("{whose}must be an object with role and content, not {}", kind(message)));
        }
        let role = Fields::parse(message.get(), &whose)?.get("role").ok_or(format!("{whose}has no role"))?;
        text(&format!("{whose}role"), role)?;
    }
    Ok(())
}

/// A model's name.
pub fn model_name(value: &RawValue) -> Result<ModelName, String> {
    ModelName::new(text("model", value)?).map_err(|error| error.to_string())
}

/// The line's own id: text or a whole number.
pub fn own_id(fields: &Fields<'_>) -> Result<Option<String>, String> {
    let (name, value) = match (fields.get("custom_id"), fields.get("id")) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err("has both id and custom_id; keep one".to_owned()),
        (Some(value), None) => ("custom_id", value),
        (None, Some(value)) => ("id", value),
    };
    let id = match kind(value) {
        "text" => text(name, value)?,
        "a number" if value.get().bytes().all(|b| b.is_ascii_digit() || b == b'-') => value.get().to_owned(),
        other => return Err(format!("{name} must be text or a whole number, not {other}")),
    };
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains('\0') {
        return Err(format!("{name} must have 1 to {MAX_ID_BYTES} bytes without NUL"));
    }
    Ok(Some(id))
}

/// How urgent the line is.
pub fn priority(fields: &Fields<'_>) -> Result<Priority, String> {
    let Some(value) = fields.get("priority") else { return Ok(Priority::default()) };
    let number: i64 = serde_json::from_str(value.get())
        .map_err(|_| format!("priority must be a whole number from 1 to 5, not {}", value.get()))?;
    Priority::new(number).map_err(|error| error.to_string())
}

fn api_path(url: &str) -> Result<ApiPath, String> {
    let below = url.strip_prefix("/v1").or_else(|| url.strip_prefix("/beta"));
    if !below.is_some_and(|path| KNOWN_PATHS.contains(&path)) {
        let known: Vec<_> = KNOWN_PATHS.iter().map(|path| format!("/v1{path}")).collect();
        return Err(format!("has the unknown url {url:?}; known are {}", known.join(", ")));
    }
    ApiPath::new(url).map_err(|error| error.to_string())
}
