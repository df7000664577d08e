//! The short form, `{"prompt":"…"}` or `{"messages":[…]}`, and records whose prompt a template makes.

use serde_json::value::RawValue;
use sluice_domain::{ApiPath, ModelName};

use super::{
    field::{Fields, quoted, text},
    fill_in::{DEFAULT_MODEL, FillIn},
    line::{check_messages, model_name, own_id, priority},
    request::Request,
};

/// What is about the line and no parameter of the request.
const OWN_FIELDS: [&str; 7] = ["id", "custom_id", "model", "system", "priority", "prompt", "messages"];
/// What is a parameter even in a record, whose other fields are data.
const RECORD_PARAMETERS: [&str; 13] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
    "reasoning_effort",
    "thinking",
    "seed",
    "stop",
    "tools",
    "tool_choice",
];

/// Makes the request of a line in the short form.
pub fn request(fields: &Fields<'_>, line_no: u64, fill_in: &FillIn) -> Result<Request, String> {
    let record = fill_in.template.as_ref().filter(|_| fields.get("messages").is_none());
    // A record's field that goes into the prompt is data, whatever its name.
    let data: Vec<_> = fields
        .0
        .iter()
        .filter(|(name, _)| !record.is_some_and(|template| name != "id" && template.uses(name)))
        .map(|(name, value)| (name.clone(), *value))
        .collect();
    let own = Fields(data);
    let model = match own.get("model") {
        Some(value) => model_name(value)?,
        None => fill_in.model.clone().unwrap_or_else(|| ModelName::from_stored(DEFAULT_MODEL.to_owned())),
    };
    let mut body = format!("{{\"model\":{},\"messages\":", quoted(model.as_str()));
    body.push_str(&match record {
        Some(template) => prompt_messages(&template.fill(fields)?, system(&own, fill_in)?.as_deref()),
        None => given_messages(&own, fill_in)?,
    });
    let parameters = own.0.iter().filter(|(name, _)| match record {
        Some(_) => RECORD_PARAMETERS.contains(&name.as_str()),
        None => !OWN_FIELDS.contains(&name.as_str()),
    });
    for (name, value) in parameters {
        push_parameter(&mut body, name, value);
    }
    for (name, value) in fill_in.parameters.iter().filter(|(name, _)| own.get(name).is_none()) {
        push_parameter(&mut body, name, value);
    }
    body.push('}');
    let own_id = own_id(&own)?;
    let body = body.into_bytes();
    Ok(Request { line_no, own_id, path: ApiPath::default(), model, priority: priority(&own)?, body })
}

fn push_parameter(body: &mut String, name: &str, value: &RawValue) {
    body.push(',');
    body.push_str(&quoted(name));
    body.push(':');
    body.push_str(value.get());
}

/// The messages of a line without a template.
fn given_messages(fields: &Fields<'_>, fill_in: &FillIn) -> Result<String, String> {
    match (fields.get("prompt"), fields.get("messages")) {
        (Some(_), Some(_)) => Err("has both prompt and messages; keep one".to_owned()),
        (Some(prompt), None) => {
            let prompt = text("prompt", prompt)?;
            Ok(prompt_messages(&prompt, system(fields, fill_in)?.as_deref()))
        }
        (None, Some(messages)) => with_system(messages, fields, fill_in),
        (None, None) => Err(format!(
            "has neither prompt, messages nor body; --template makes a prompt of its fields ({})",
            fields.names()
        )),
    }
}

/// The line's own system message, else the option's.
fn system(fields: &Fields<'_>, fill_in: &FillIn) -> Result<Option<String>, String> {
    match fields.get("system") {
        Some(value) => text("system", value).map(Some),
        None => Ok(fill_in.system.clone()),
    }
}

fn prompt_messages(prompt: &str, system: Option<&str>) -> String {
    let user = message("user", prompt);
    system.map_or_else(|| format!("[{user}]"), |system| format!("[{},{user}]", message("system", system)))
}

/// A line's messages, with a system message before them where they have none.
fn with_system(messages: &RawValue, fields: &Fields<'_>, fill_in: &FillIn) -> Result<String, String> {
    check_messages(messages)?;
    let parsed: Vec<&RawValue> = serde_json::from_str(messages.get()).map_err(|error| error.to_string())?;
    let has_own = parsed.iter().any(|message| {
        Fields::parse(message.get(), "").is_ok_and(|fields| {
            fields.get("role").is_some_and(|role| matches!(role.get(), "\"system\"" | "\"developer\""))
        })
    });
    if has_own && fields.get("system").is_some() {
        return Err("has a system message in messages and the field system; keep one".to_owned());
    }
    match system(fields, fill_in)? {
        Some(system) if !has_own => Ok(format!("[{},{}", message("system", &system), &messages.get()[1..])),
        _ => Ok(messages.get().to_owned()),
    }
}

fn message(role: &str, content: &str) -> String {
    format!("{{\"role\":\"{role}\",\"content\":{}}}", quoted(content))
}
