//! Text completions, embeddings and images: endpoints whose input is a string or several.

use serde_json::Value;

use super::{ApiRequest, Ask, TextFormat, chat::text_options, check_context, fields::Fields};
use crate::{api_error::ApiError, config::ModelConfig, tokens::count_tokens};

/// The most inputs of one call.
const MAX_INPUTS: usize = 2_048;
/// Dimensions of an embedding where none are asked for.
const DEFAULT_DIMENSIONS: u64 = 256;
const MAX_DIMENSIONS: u64 = 3_072;
const MAX_IMAGES: u64 = 10;

pub(super) fn parse_completions(fields: &Fields<'_>, model: &ModelConfig) -> Result<ApiRequest, ApiError> {
    let prompts = strings(fields, "prompt")?;
    let mut options = text_options(fields, model)?;
    options.is_thinking = false;
    options.format = TextFormat::Free;
    let suffix_tokens = fields.string("suffix")?.map_or(0, count_tokens);
    let prompt_tokens = prompts.iter().map(|prompt| count_tokens(prompt)).sum::<u64>() + suffix_tokens;
    check_context(model, prompt_tokens, options.max_tokens.unwrap_or(0))?;
    let echo = prompts.first().cloned().unwrap_or_default();
    Ok(ApiRequest { model: model.clone(), ask: Ask::Completions { prompts, options }, prompt_tokens, echo })
}

pub(super) fn parse_embeddings(fields: &Fields<'_>, model: &ModelConfig) -> Result<ApiRequest, ApiError> {
    fields.refuse_unknown(&["dimensions", "encoding_format", "input", "model", "user", "metadata"])?;
    let inputs = strings(fields, "input")?;
    if inputs.iter().any(String::is_empty) {
        return Err(ApiError::out_of_range("input", "'$.input' is invalid: an input must not be empty."));
    }
    let dimensions = fields.whole("dimensions", 1..=MAX_DIMENSIONS)?.unwrap_or(DEFAULT_DIMENSIONS) as usize;
    let is_base64 = fields.word("encoding_format", &["float", "base64"])? == Some("base64");
    fields.string("user")?;
    let tokens: Vec<u64> = inputs.iter().map(|input| count_tokens(input)).collect();
    check_context(model, tokens.iter().copied().max().unwrap_or(0), 0)?;
    let echo = inputs.first().cloned().unwrap_or_default();
    let ask = Ask::Embeddings { inputs, dimensions, is_base64 };
    Ok(ApiRequest { model: model.clone(), ask, prompt_tokens: tokens.iter().sum(), echo })
}

pub(super) fn parse_images(fields: &Fields<'_>, model: &ModelConfig) -> Result<ApiRequest, ApiError> {
    let prompt = fields.required("prompt")?;
    let prompt = prompt.as_str().ok_or_else(|| fields.bad("prompt", "expected a string"))?;
    if prompt.is_empty() {
        return Err(ApiError::out_of_range("prompt", "'prompt' must not be empty."));
    }
    let count = fields.whole("n", 1..=MAX_IMAGES)?.unwrap_or(1);
    let is_base64 = fields.word("response_format", &["url", "b64_json"])? == Some("b64_json");
    fields.string("size")?;
    fields.string("user")?;
    let prompt_tokens = count_tokens(prompt);
    check_context(model, prompt_tokens, 0)?;
    let ask = Ask::Images { count, is_base64 };
    Ok(ApiRequest { model: model.clone(), ask, prompt_tokens, echo: prompt.to_owned() })
}

/// A string, an array of strings, an array of tokens, or an array of arrays of tokens.
fn strings(fields: &Fields<'_>, name: &str) -> Result<Vec<String>, ApiError> {
    let value = fields.required(name)?;
    let texts = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) if items.is_empty() || items.len() > MAX_INPUTS => {
            let message = format!("'{name}' must hold 1 to {MAX_INPUTS} items.");
            return Err(ApiError::out_of_range(name, message));
        }
        Value::Array(items) if items[0].is_number() => tokens_text(value).map(|text| vec![text]),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).or_else(|| tokens_text(item)))
            .collect::<Option<Vec<_>>>(),
        _ => None,
    };
    texts.ok_or_else(|| fields.bad(name, "expected a string, an array of strings or arrays of tokens"))
}

/// An array of tokens as a text that stands for it.
fn tokens_text(value: &Value) -> Option<String> {
    let tokens = value.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?;
    Some(tokens.iter().map(|token| format!("{token:04}")).collect::<Vec<_>>().concat())
}
