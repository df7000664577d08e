//! Reads a request as strictly as the real APIs do: what they refuse is refused, with their status and shape. Pure.
//!
//! The order of checks is that of the real ones: JSON, model, then fields. Keys, balance and limits are not
//! checked here (`accounts`), nor is anything answered.

mod chat;
mod fields;
mod inputs;

use serde_json::{Map, Value};

use crate::{
    api_error::ApiError,
    config::{Dialect, ModelConfig, ModelKind},
};
use fields::Fields;

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Images,
}

impl Endpoint {
    /// The endpoint of a path, with or without `/v1` or `/beta` before it.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/beta")).unwrap_or(path);
        match path {
            "/chat/completions" => Some(Self::Chat),
            "/completions" => Some(Self::Completions),
            "/embeddings" => Some(Self::Embeddings),
            "/images/generations" => Some(Self::Images),
            _ => None,
        }
    }

    fn fits(self, kind: ModelKind) -> bool {
        match self {
            Self::Chat | Self::Completions => kind == ModelKind::Chat,
            Self::Embeddings => kind == ModelKind::Embeddings,
            Self::Images => kind == ModelKind::Images,
        }
    }
}

/// How an answer's text must look.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum TextFormat {
    Free,
    JsonObject,
    /// An instance of this schema.
    JsonSchema(Value),
}

/// What a chat or text completion asks for beside its prompt.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TextOptions {
    pub(crate) is_stream: bool,
    pub(crate) wants_usage_chunk: bool,
    pub(crate) choices: u64,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) is_thinking: bool,
    pub(crate) format: TextFormat,
}

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Ask {
    Chat(TextOptions),
    /// One completion (or `choices` of them) for each prompt.
    Completions {
        prompts: Vec<String>,
        options: TextOptions,
    },
    Embeddings {
        inputs: Vec<String>,
        dimensions: usize,
        is_base64: bool,
    },
    Images {
        count: u64,
        is_base64: bool,
    },
}

/// A request that the real API would accept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ApiRequest {
    pub(crate) model: ModelConfig,
    pub(crate) ask: Ask,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u64,
    /// The text that the answer echoes: the last message of the user, or the prompt.
    pub(crate) echo: String,
}

impl ApiRequest {
    /// The bound that the request sets itself on its answer, over all its choices.
    pub(crate) fn max_output_tokens(&self) -> Option<u64> {
        match &self.ask {
            Ask::Chat(options) => options.max_tokens.map(|max| max * options.choices),
            Ask::Completions { prompts, options } => {
                options.max_tokens.map(|max| max * options.choices * prompts.len() as u64)
            }
            Ask::Embeddings { .. } | Ask::Images { .. } => Some(0),
        }
    }
}

/// What can be said of a body even where the request is refused.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Glimpse {
    pub(crate) model: Option<String>,
    /// The body's `user`, else its `metadata.key`.
    pub(crate) custom_key: Option<String>,
    /// All text of the prompt, in order.
    pub(crate) prompt: String,
}

impl Glimpse {
    /// Takes what is there.
    pub(crate) fn of(body: &Map<String, Value>) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let key = text(body.get("user")).or_else(|| text(body.get("metadata").and_then(|m| m.get("key"))));
        let mut prompt = String::new();
        for field in ["messages", "prompt", "suffix", "input"] {
            if let Some(value) = body.get(field) {
                push_text(value, &mut prompt);
            }
        }
        Self { model: text(body.get("model")), custom_key: key, prompt }
    }
}

/// Appends every string of a prompt, each followed by a line break.
fn push_text(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push_str(text);
            into.push('\n');
        }
        Value::Number(token) => {
            into.push_str(&token.to_string());
            into.push(' ');
        }
        Value::Array(items) => items.iter().for_each(|item| push_text(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| push_text(field, into)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The body as a JSON object.
pub(crate) fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(ApiError::bad_request("The body must be a JSON object.")),
        Err(error) => Err(ApiError::bad_request(format!(
            "We could not parse the JSON body of your request: at line {} column {}.",
            error.line(),
            error.column()
        ))),
    }
}

/// Checks a request; `glimpse` is what was taken from the same body.
pub(crate) fn parse_request(
    endpoint: Endpoint,
    body: &Map<String, Value>,
    glimpse: &Glimpse,
    models: &[ModelConfig],
) -> Result<ApiRequest, ApiError> {
    let model = find_model(body, models)?;
    if !endpoint.fits(model.kind) {
        let message = format!("The model `{}` can't be used on this path.", model.id);
        return Err(ApiError::new(404, "invalid_request_error", Some("model_not_supported"), message));
    }
    let fields = Fields { map: body, dialect: model.dialect };
    match endpoint {
        Endpoint::Chat => chat::parse(&fields, model, glimpse),
        Endpoint::Completions => inputs::parse_completions(&fields, model),
        Endpoint::Embeddings => inputs::parse_embeddings(&fields, model),
        Endpoint::Images => inputs::parse_images(&fields, model),
    }
}

fn find_model<'a>(body: &Map<String, Value>, models: &'a [ModelConfig]) -> Result<&'a ModelConfig, ApiError> {
    let name = match body.get("model") {
        Some(Value::String(name)) if !name.is_empty() => name,
        Some(Value::String(_) | Value::Null) | None => {
            return Err(ApiError::bad_request("you must provide a model parameter").about("model"));
        }
        Some(_) => return Err(ApiError::bad_field(Dialect::Openai, "model", "expected a string")),
    };
    models.iter().find(|model| model.id == *name).ok_or_else(|| match name.as_str() {
        "deepseek-chat" | "deepseek-reasoner" => ApiError::bad_request(format!(
            "Model Not Exist: {name} was retired on 2026-07-24, use deepseek-flash or deepseek-v4-pro"
        ))
        .about("model"),
        _ => ApiError::bad_request("Model Not Exist").about("model"),
    })
}

/// Refuses what does not fit into the model's context. `answer_tokens` is what the request asks for at most.
fn check_context(model: &ModelConfig, prompt_tokens: u64, answer_tokens: u64) -> Result<(), ApiError> {
    let asked = prompt_tokens.saturating_add(answer_tokens);
    if asked <= model.context_tokens {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {} tokens. However, you requested {asked} tokens ({prompt_tokens} in \
         the messages, {answer_tokens} in the completion). Please reduce the length of the messages or completion.",
        model.context_tokens
    );
    let code = match model.dialect {
        Dialect::Deepseek => "invalid_request_error",
        Dialect::Openai => "context_length_exceeded",
    };
    Err(ApiError::new(400, "invalid_request_error", Some(code), message).about("messages"))
}
