//! Puts a completion together from the chunks of a stream, in the form that a plain answer has.
//!
//! Strings that come in parts are joined, lists of parts (tool calls) are matched by their `index`, and what is said
//! once stays. Not here: whether the completion is a good one (`policy::classify`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sluice_policy::answer_json::lenient_json;

/// The most choices of a completion, and the most parts of a list that are matched by their index. No honest stream has
/// so many; another one must not take time that grows with the square of its length, nor become a completion many times
/// as long.
const MAX_PARTS: usize = 1_024;

/// What came out of a stream so far.
#[derive(Debug, Default)]
pub struct Assembly {
    head: Map<String, Value>,
    choices: BTreeMap<u64, Map<String, Value>>,
    usage: Option<Value>,
    error: Option<Value>,
    is_done: bool,
    is_malformed: bool,
}

impl Assembly {
    /// Takes the data of one event. Says whether it brought anything: a chunk that only tells the role, or nothing, is
    /// sent long before the first token by some servers, and is a sign of life.
    pub fn push(&mut self, data: &[u8]) -> bool {
        if data.trim_ascii() == b"[DONE]" {
            self.is_done = true;
            return true;
        }
        let Some(Value::Object(chunk)) = lenient_json(data) else {
            self.is_malformed = true;
            return true;
        };
        let brings_something = brings_something(&chunk);
        self.take(chunk);
        brings_something
    }

    /// Whether `[DONE]` came.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether some event was none of the API's.
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// The error that the stream told of.
    pub fn error(&self) -> Option<&Value> {
        self.error.as_ref()
    }

    /// Whether nothing is missing: `[DONE]` came, or each choice has told why it ended. (Some servers never send
    /// `[DONE]`, and a stream that breaks just before it has been paid for and is whole.)
    pub fn is_complete(&self) -> bool {
        let has_ended =
            |choice: &Map<String, Value>| choice.get("finish_reason").is_some_and(|r| !r.is_null());
        self.is_done || (!self.choices.is_empty() && self.choices.values().all(has_ended))
    }

    /// The completion as a plain answer would have it.
    pub fn into_completion(self) -> Value {
        let mut completion = self.head;
        let object = if self.choices.values().any(|choice| choice.contains_key("text")) {
            "text_completion"
        } else {
            "chat.completion"
        };
        completion.insert("object".to_owned(), object.into());
        let choices = self.choices.into_iter().map(|(index, choice)| finished_choice(index, choice));
        completion.insert("choices".to_owned(), choices.collect());
        if let Some(usage) = self.usage {
            completion.insert("usage".to_owned(), usage);
        }
        Value::Object(completion)
    }

    fn take(&mut self, chunk: Map<String, Value>) {
        for (key, value) in chunk {
            match key.as_str() {
                _ if value.is_null() => {}
                "object" => {}
                "error" => self.error = Some(value),
                "usage" => self.usage = Some(value),
                "choices" => self.take_choices(value),
                _ => {
                    self.head.entry(key).or_insert(value);
                }
            }
        }
    }

    fn take_choices(&mut self, choices: Value) {
        let Value::Array(choices) = choices else {
            self.is_malformed = true;
            return;
        };
        for choice in choices {
            let Value::Object(choice) = choice else {
                self.is_malformed = true;
                continue;
            };
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            if self.choices.len() >= MAX_PARTS && !self.choices.contains_key(&index) {
                self.is_malformed = true;
                return;
            }
            let known = self.choices.entry(index).or_default();
            for (key, value) in choice {
                let key = if key == "delta" { "message".to_owned() } else { key };
                merge_member(known, key, value);
            }
        }
    }
}

/// Whether there is an error, the usage, or more of a choice than its place and the role in it.
fn brings_something(chunk: &Map<String, Value>) -> bool {
    let is_there = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let is_said = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("index" | "role", _) => false,
        ("delta", Value::Object(delta)) => delta.iter().any(|(key, value)| key != "role" && is_there(value)),
        (_, value) => is_there(value),
    };
    chunk.iter().any(|(key, value)| match (key.as_str(), value) {
        ("choices", Value::Array(choices)) => {
            choices.iter().any(|choice| choice.as_object().is_none_or(|choice| choice.iter().any(is_said)))
        }
        ("choices", _) => true,
        ("error" | "usage", value) => is_there(value),
        _ => false,
    })
}

/// Members that are said once; a server that repeats them in each chunk doesn't mean a longer one.
const SAID_ONCE: [&str; 6] = ["role", "id", "type", "index", "name", "finish_reason"];

fn merge_member(known: &mut Map<String, Value>, key: String, value: Value) {
    if value.is_null() {
        return;
    }
    let is_said_once = SAID_ONCE.contains(&key.as_str());
    match known.get_mut(&key) {
        None => {
            let mut fresh = empty_like(&value);
            merge(&mut fresh, value);
            known.insert(key, fresh);
        }
        Some(_) if is_said_once => {}
        Some(known) => merge(known, value),
    }
}

/// So that the first of a list or object goes the same way as those that follow.
fn empty_like(value: &Value) -> Value {
    match value {
        Value::Array(_) => json!([]),
        Value::Object(_) => json!({}),
        _ => Value::Null,
    }
}

fn merge(known: &mut Value, value: Value) {
    match (known, value) {
        (Value::String(known), Value::String(more)) => known.push_str(&more),
        (Value::Object(known), Value::Object(more)) => {
            for (key, value) in more {
                merge_member(known, key, value);
            }
        }
        (Value::Array(known), Value::Array(more)) => {
            for item in more {
                let is_searched = known.len() < MAX_PARTS;
                let index = item.get("index").filter(|index| is_searched && index.is_u64());
                let same = index.and_then(|index| known.iter_mut().find(|k| k.get("index") == Some(index)));
                match same {
                    Some(same) => merge(same, item),
                    None => known.push(item),
                }
            }
        }
        (known, value) => *known = value,
    }
}

fn finished_choice(index: u64, mut choice: Map<String, Value>) -> Value {
    choice.insert("index".to_owned(), index.into());
    choice.entry("finish_reason").or_insert(Value::Null);
    if !choice.contains_key("text") {
        let message = choice.entry("message").or_insert_with(|| json!({}));
        if let Value::Object(message) = message {
            message.entry("role").or_insert_with(|| "assistant".into());
            message.entry("content").or_insert(Value::Null);
            if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
                // The index is how parts find each other; plain answers have none.
                for call in calls.iter_mut().filter_map(Value::as_object_mut) {
                    call.shift_remove("index");
                }
            }
        }
    }
    Value::Object(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(chunks: &[Value]) -> Assembly {
        let mut assembly = Assembly::default();
        for chunk in chunks {
            assembly.push(chunk.to_string().as_bytes());
        }
        assembly
    }

    fn delta(delta: &Value, finish_reason: &Value) -> Value {
        json!({
            "id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        })
    }

    #[test]
    fn chunks_become_a_completion() {
        let none = Value::Null;
        let mut assembly = assembled(&[
            delta(&json!({"role": "assistant", "content": null, "reasoning_content": "hm"}), &none),
            delta(&json!({"role": "assistant", "reasoning_content": "m"}), &none),
            delta(&json!({"content": "Hel"}), &none),
            delta(&json!({"content": "lo"}), &json!("stop")),
            json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        ]);
        assert!(assembly.is_complete() && !assembly.is_done());
        assembly.push(b" [DONE]");
        assert!(assembly.is_done());
        assert_eq!(
            assembly.into_completion(),
            json!({
                "id": "c1", "object": "chat.completion", "created": 7, "model": "m",
                "choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "Hello", "reasoning_content": "hmm"},
                }],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            })
        );
    }

    #[test]
    fn a_chunk_without_a_token_is_a_sign_of_life() {
        let none = Value::Null;
        for (chunk, brings_something) in [
            (delta(&json!({"role": "assistant", "content": ""}), &none), false),
            (delta(&json!({"role": "assistant", "content": null, "tool_calls": []}), &none), false),
            (json!({"id": "c1", "choices": [], "usage": null}), false),
            (delta(&json!({"reasoning_content": "h"}), &none), true),
            (delta(&json!({"tool_calls": [{"index": 0}]}), &none), true),
            (delta(&json!({}), &json!("stop")), true),
            (json!({"choices": [{"index": 0, "text": "a"}]}), true),
            (json!({"choices": [], "usage": {"prompt_tokens": 3}}), true),
            (json!({"error": {"message": "no"}}), true),
        ] {
            assert_eq!(Assembly::default().push(chunk.to_string().as_bytes()), brings_something, "{chunk}");
        }
        assert!(Assembly::default().push(b"[DONE]") && Assembly::default().push(b"nonsense"));
    }

    #[test]
    fn tool_calls_are_joined_by_index() {
        let call = |index: u64, rest: Value| {
            let mut call = rest;
            call["index"] = index.into();
            delta(&json!({"tool_calls": [call]}), &Value::Null)
        };
        let assembly = assembled(&[
            call(0, json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
            call(1, json!({"id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}})),
            call(0, json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}})),
            call(1, json!({"function": {"arguments": "}"}})),
            delta(&json!({}), &json!("tool_calls")),
        ]);
        let message = &assembly.into_completion()["choices"][0]["message"];
        let f = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
        assert_eq!(message["tool_calls"], json!([f("a", "f"), f("b", "g")]));
    }

    #[test]
    fn texts_of_several_choices_stay_apart() {
        let text = |index: u64, text: &str, finish: Value| json!({"id": "c", "choices": [{"index": index, "text": text, "finish_reason": finish}]});
        let mut assembly = assembled(&[text(1, "b", Value::Null), text(0, "a", "stop".into())]);
        assert!(!assembly.is_complete());
        assembly.push(text(1, "c", "length".into()).to_string().as_bytes());
        assert!(assembly.is_complete());
        let completion = assembly.into_completion();
        assert_eq!(completion["object"], "text_completion");
        assert_eq!(completion["choices"][0]["text"], "a");
        assert_eq!(completion["choices"][1], json!({"index": 1, "text": "bc", "finish_reason": "length"}));
    }

    #[test]
    fn parts_without_end_cost_no_more_than_their_length() {
        let parts = |count: u64| (0..count).map(|index| json!({"index": index})).collect::<Vec<_>>();
        let assembly = assembled(&[delta(&json!({"tool_calls": parts(50_000)}), &Value::Null)]);
        let completion = assembly.into_completion();
        assert_eq!(completion["choices"][0]["message"]["tool_calls"].as_array().map(Vec::len), Some(50_000));
        let assembly = assembled(&[json!({"choices": parts(50_000)})]);
        assert!(assembly.is_malformed());
        assert_eq!(assembly.into_completion()["choices"].as_array().map(Vec::len), Some(MAX_PARTS));
    }

    #[test]
    fn errors_and_nonsense_are_told() {
        let assembly = assembled(&[json!({"error": {"message": "no"}})]);
        assert_eq!(assembly.error(), Some(&json!({"message": "no"})));
        for nonsense in [&b"{"[..], b"7", b"{\"choices\":3}", b"{\"choices\":[3]}"] {
            let mut assembly = Assembly::default();
            assembly.push(nonsense);
            assert!(assembly.is_malformed());
        }
    }
}
