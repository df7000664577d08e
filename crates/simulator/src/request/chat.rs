//! Chat completions: messages and the options that they share with text completions.

use serde_json::Value;

use super::{ApiRequest, Ask, Glimpse, TextFormat, TextOptions, check_context, fields::Fields};
use crate::{
    api_error::ApiError,
    config::{Dialect, ModelConfig},
    tokens::count_tokens,
};

const KNOWN: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];
/// The most choices one call may ask for.
const MAX_CHOICES: u64 = 128;
const MAX_STOPS: usize = 16;

pub(super) fn parse(
    fields: &Fields<'_>,
    model: &ModelConfig,
    glimpse: &Glimpse,
) -> Result<ApiRequest, ApiError> {
    fields.refuse_unknown(KNOWN)?;
    let echo = check_messages(fields)?;
    let options = text_options(fields, model)?;
    if options.format == TextFormat::JsonObject && !glimpse.prompt.to_ascii_lowercase().contains("json") {
        let message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type \
                       'json_object'.";
        return Err(ApiError::out_of_range("messages", message));
    }
    let prompt_tokens = count_tokens(&glimpse.prompt);
    check_context(model, prompt_tokens, options.max_tokens.unwrap_or(0))?;
    Ok(ApiRequest { model: model.clone(), ask: Ask::Chat(options), prompt_tokens, echo })
}

/// Checks the messages and gives the text of the user's last.
fn check_messages(fields: &Fields<'_>) -> Result<String, ApiError> {
    let messages = fields.required("messages")?;
    let messages = messages.as_array().ok_or_else(|| fields.bad("messages", "expected an array"))?;
    if messages.is_empty() {
        let message = match fields.dialect {
            Dialect::Deepseek => "Empty input messages",
            Dialect::Openai => "Invalid 'messages': empty array. Expected an array with minimum length 1.",
        };
        return Err(ApiError::out_of_range("messages", message));
    }
    let mut echo = String::new();
    for (at, message) in messages.iter().enumerate() {
        let text = check_message(fields, at, message)?;
        if message.get("role").and_then(Value::as_str) == Some("user") || echo.is_empty() {
            echo = text;
        }
    }
    Ok(echo)
}

fn check_message(fields: &Fields<'_>, at: usize, message: &Value) -> Result<String, ApiError> {
    let bad = |field: &str, problem: &str| fields.bad(&format!("messages[{at}]{field}"), problem);
    let message = message.as_object().ok_or_else(|| bad("", "expected an object"))?;
    let role = match message.get("role") {
        Some(Value::String(role)) => role.as_str(),
        Some(_) => return Err(bad(".role", "expected a string")),
        None => return Err(bad(".role", "missing field `role`")),
    };
    let is_known = match fields.dialect {
        Dialect::Deepseek => matches!(role, "system" | "user" | "assistant" | "tool"),
        Dialect::Openai => {
            matches!(role, "system" | "developer" | "user" | "assistant" | "tool" | "function")
        }
    };
    if !is_known {
        return Err(bad(
            ".role",
            &format!("unknown variant `{role}`, expected system, user, assistant or tool"),
        ));
    }
    if role == "tool" && !message.get("tool_call_id").is_some_and(Value::is_string) {
        return Err(bad(".tool_call_id", "missing field `tool_call_id`"));
    }
    match message.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            parts_text(parts).ok_or_else(|| bad(".content", "expected parts with a type"))
        }
        Some(Value::Null) | None if role == "assistant" && message.contains_key("tool_calls") => {
            Ok(String::new())
        }
        Some(Value::Null) | None => Err(bad(".content", "missing field `content`")),
        Some(_) => Err(bad(".content", "expected a string or an array of parts")),
    }
}

/// The text of a message in parts; `None` where a part is malformed.
fn parts_text(parts: &[Value]) -> Option<String> {
    let mut text = String::new();
    for part in parts {
        match part.get("type")?.as_str()? {
            "text" => text.push_str(part.get("text")?.as_str()?),
            _ => text.push_str("[part]"),
        }
    }
    (!parts.is_empty()).then_some(text)
}

/// The options that chat and text completions share.
pub(super) fn text_options(fields: &Fields<'_>, model: &ModelConfig) -> Result<TextOptions, ApiError> {
    check_sampling(fields)?;
    let is_stream = fields.bool("stream")?.unwrap_or(false);
    let max = fields.whole("max_tokens", 1..=model.max_output_tokens)?;
    let max_tokens = max.or(fields.whole("max_completion_tokens", 1..=model.max_output_tokens)?);
    Ok(TextOptions {
        is_stream,
        wants_usage_chunk: wants_usage_chunk(fields, is_stream)?,
        choices: fields.whole("n", 1..=MAX_CHOICES)?.unwrap_or(1),
        max_tokens,
        is_thinking: is_thinking(fields)?,
        format: text_format(fields)?,
    })
}

fn check_sampling(fields: &Fields<'_>) -> Result<(), ApiError> {
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    fields.number("frequency_penalty", -2.0..=2.0)?;
    fields.number("presence_penalty", -2.0..=2.0)?;
    fields.whole("top_logprobs", 0..=20)?;
    if fields.get("seed").is_some_and(|seed| !seed.is_i64() && !seed.is_u64()) {
        return Err(fields.bad("seed", "expected an integer"));
    }
    fields.string("user")?;
    match fields.get("stop") {
        None | Some(Value::String(_)) => {}
        Some(Value::Array(stops)) if stops.len() <= MAX_STOPS && stops.iter().all(Value::is_string) => {}
        Some(_) => return Err(fields.bad("stop", "expected a string or up to 16 strings")),
    }
    match fields.get("tools") {
        None => Ok(()),
        Some(Value::Array(tools))
            if tools.iter().all(|tool| tool.get("type").is_some_and(Value::is_string)) =>
        {
            Ok(())
        }
        Some(_) => Err(fields.bad("tools", "expected an array of tools with a type")),
    }
}

fn wants_usage_chunk(fields: &Fields<'_>, is_stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.get("stream_options") else { return Ok(false) };
    if !is_stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::out_of_range("stream_options", message));
    }
    let options = options.as_object().ok_or_else(|| fields.bad("stream_options", "expected an object"))?;
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wants)) => Ok(*wants),
        Some(_) => Err(fields.bad("stream_options.include_usage", "expected a boolean")),
    }
}

/// DeepSeek's models think unless they are told not to; those of OpenAI's shapes never show it.
fn is_thinking(fields: &Fields<'_>) -> Result<bool, ApiError> {
    if fields.dialect == Dialect::Openai {
        fields.word("reasoning_effort", &["none", "minimal", "low", "medium", "high", "xhigh"])?;
        return Ok(false);
    }
    fields.word("reasoning_effort", &["low", "high", "max"])?;
    let Some(thinking) = fields.get("thinking") else { return Ok(true) };
    match thinking.get("type").and_then(Value::as_str) {
        Some("enabled") => Ok(true),
        Some("disabled") => Ok(false),
        _ => Err(fields.bad("thinking.type", "expected `enabled` or `disabled`")),
    }
}

fn text_format(fields: &Fields<'_>) -> Result<TextFormat, ApiError> {
    let Some(format) = fields.get("response_format") else { return Ok(TextFormat::Free) };
    match (format.get("type").and_then(Value::as_str), fields.dialect) {
        (Some("text"), _) => Ok(TextFormat::Free),
        (Some("json_object"), _) => Ok(TextFormat::JsonObject),
        (Some("json_schema"), Dialect::Deepseek) => {
            Err(ApiError::out_of_range("response_format", "This response_format type is unavailable now"))
        }
        (Some("json_schema"), Dialect::Openai) => {
            let schema = format.get("json_schema").and_then(|wrapper| wrapper.get("schema"));
            let schema = schema.filter(|schema| schema.is_object());
            schema
                .cloned()
                .map(TextFormat::JsonSchema)
                .ok_or_else(|| fields.bad("response_format.json_schema.schema", "expected an object"))
        }
        _ => Err(fields.bad("response_format.type", "expected `text`, `json_object` or `json_schema`")),
    }
}
