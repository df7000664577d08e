//! The JSON of good answers, in the shapes of DeepSeek and of OpenAI. Pure; no bytes yet, so that faults can still
//! damage values.

use serde_json::{Map, Value, json};
use sluice_domain::Usage;

use crate::{
    answer::{AnswerSource, Completion, embedding},
    config::Dialect,
    request::{ApiRequest, Ask},
    tokens::{count_tokens, split_by_tokens},
};

/// Tokens of one chunk of a stream.
const TOKENS_PER_CHUNK: u64 = 4;
/// A transparent PNG of one pixel.
const PIXEL_PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A chunk of a stream.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Event {
    pub(crate) json: Value,
    /// Tokens that it carries.
    pub(crate) tokens: u64,
}

/// A good answer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Good {
    Plain(Value),
    /// Chunks; `[DONE]` is to follow.
    Stream(Vec<Event>),
}

/// What is the same in all parts of one answer.
pub(crate) struct Head<'a> {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) request: &'a ApiRequest,
    pub(crate) usage: Usage,
}

impl Head<'_> {
    /// The whole answer.
    pub(crate) fn good(&self, completions: &[Completion], source: &AnswerSource) -> Good {
        match &self.request.ask {
            Ask::Chat(options) if options.is_stream => {
                Good::Stream(self.chat_events(completions, options.wants_usage_chunk))
            }
            Ask::Chat(_) => Good::Plain(self.chat(completions)),
            Ask::Completions { options, .. } if options.is_stream => {
                Good::Stream(self.text_events(completions, options.wants_usage_chunk))
            }
            Ask::Completions { .. } => Good::Plain(self.text(completions)),
            Ask::Embeddings { inputs, dimensions, is_base64 } => {
                Good::Plain(self.embeddings(inputs, *dimensions, *is_base64, source.seed))
            }
            Ask::Images { count, is_base64 } => Good::Plain(self.images(*count, *is_base64, source)),
        }
    }

    fn wrap(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::with_capacity(7);
        map.insert("id".to_owned(), self.id.as_str().into());
        map.insert("object".to_owned(), object.into());
        map.insert("created".to_owned(), self.created.into());
        map.insert("model".to_owned(), self.request.model.id.as_str().into());
        map.insert("choices".to_owned(), Value::Array(choices));
        map.insert("system_fingerprint".to_owned(), "fp_simulator".into());
        map
    }

    fn usage_json(&self) -> Value {
        let usage = &self.usage;
        let mut json = json!({
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        });
        if self.request.model.dialect == Dialect::Deepseek {
            json["prompt_cache_hit_tokens"] = usage.cached_input_tokens.into();
            json["prompt_cache_miss_tokens"] = (usage.input_tokens - usage.cached_input_tokens).into();
        }
        json
    }

    fn chat(&self, completions: &[Completion]) -> Value {
        let choices = completions.iter().enumerate().map(|(index, completion)| {
            let mut message = json!({"role": "assistant", "content": completion.text});
            if let Some(reasoning) = &completion.reasoning {
                message["reasoning_content"] = reasoning.as_str().into();
            }
            if self.request.model.dialect == Dialect::Openai {
                message["refusal"] = Value::Null;
            }
            json!({"index": index, "message": message, "logprobs": null,
                "finish_reason": completion.finish_reason})
        });
        let mut answer = self.wrap("chat.completion", choices.collect());
        answer.insert("usage".to_owned(), self.usage_json());
        Value::Object(answer)
    }

    fn text(&self, completions: &[Completion]) -> Value {
        let choices = completions.iter().enumerate().map(|(index, completion)| {
            json!({"index": index, "text": completion.text, "logprobs": null,
                "finish_reason": completion.finish_reason})
        });
        let mut answer = self.wrap("text_completion", choices.collect());
        answer.insert("usage".to_owned(), self.usage_json());
        Value::Object(answer)
    }

    fn event(&self, object: &str, choice: Value, tokens: u64) -> Event {
        Event { json: Value::Object(self.wrap(object, vec![choice])), tokens }
    }

    fn chat_events(&self, completions: &[Completion], wants_usage: bool) -> Vec<Event> {
        let chunk = |index: usize, delta: Value, finish: Option<&str>, tokens: u64| {
            let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
            self.event("chat.completion.chunk", choice, tokens)
        };
        let mut events = Vec::new();
        for (index, completion) in completions.iter().enumerate() {
            events.push(chunk(index, json!({"role": "assistant", "content": ""}), None, 0));
            for piece in split_by_tokens(completion.reasoning.as_deref().unwrap_or(""), TOKENS_PER_CHUNK) {
                let delta = json!({"content": null, "reasoning_content": piece});
                events.push(chunk(index, delta, None, count_tokens(piece)));
            }
            for piece in split_by_tokens(&completion.text, TOKENS_PER_CHUNK) {
                events.push(chunk(index, json!({"content": piece}), None, count_tokens(piece)));
            }
            events.push(chunk(index, json!({}), Some(completion.finish_reason), 0));
        }
        self.with_usage_chunk("chat.completion.chunk", events, wants_usage)
    }

    fn text_events(&self, completions: &[Completion], wants_usage: bool) -> Vec<Event> {
        let mut events = Vec::new();
        for (index, completion) in completions.iter().enumerate() {
            let pieces = split_by_tokens(&completion.text, TOKENS_PER_CHUNK);
            let last = pieces.len().saturating_sub(1);
            for (at, piece) in pieces.iter().enumerate() {
                let finish = (at == last).then_some(completion.finish_reason);
                let choice =
                    json!({"index": index, "text": piece, "logprobs": null, "finish_reason": finish});
                events.push(self.event("text_completion", choice, count_tokens(piece)));
            }
        }
        self.with_usage_chunk("text_completion", events, wants_usage)
    }

    fn with_usage_chunk(&self, object: &str, mut events: Vec<Event>, wants_usage: bool) -> Vec<Event> {
        if wants_usage {
            for event in &mut events {
                event.json["usage"] = Value::Null;
            }
            let mut last = self.wrap(object, Vec::new());
            last.insert("usage".to_owned(), self.usage_json());
            events.push(Event { json: Value::Object(last), tokens: 0 });
        }
        events
    }

    fn embeddings(&self, inputs: &[String], dimensions: usize, is_base64: bool, seed: u64) -> Value {
        let data = inputs.iter().enumerate().map(|(index, input)| {
            let vector = embedding(seed, input, dimensions);
            let vector = if is_base64 { base64_of(&vector).into() } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": vector})
        });
        let tokens = self.usage.input_tokens;
        json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": self.request.model.id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    }

    fn images(&self, count: u64, is_base64: bool, source: &AnswerSource) -> Value {
        let image = |index: u64| {
            let prompt = format!("echo {} {index}", source.tag());
            if is_base64 {
                json!({"b64_json": PIXEL_PNG, "revised_prompt": prompt})
            } else {
                let url = format!("https://images.example/{}/{index}.png", source.tag());
                json!({"url": url, "revised_prompt": prompt})
            }
        };
        let tokens = self.usage.input_tokens;
        json!({"created": self.created, "data": (0..count).map(image).collect::<Vec<_>>(),
            "usage": {"input_tokens": tokens, "output_tokens": 0, "total_tokens": tokens}})
    }
}

/// Little-endian floats in base64, as `encoding_format: "base64"` has them.
fn base64_of(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        assert_eq!(base64_of(&[0.0]), "AAAAAA==");
        assert_eq!(base64_of(&[1.0]), "AACAPw==");
        assert_eq!(base64_of(&[1.0, -2.5, 0.5]), "AACAPwAAIMAAAAA/");
    }
}
