//! A whole completion as the stream that it might have been: for clients that ask for a stream of an answer that is there
//! already, or that was not streamed by the provider.

use serde_json::{Map, Value, json};

/// The last event of a stream.
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// The events of a completion, in server-sent form; `None` where the bytes are no completion.
pub(super) fn of_completion(body: &[u8], wants_usage: bool) -> Option<String> {
    let completion: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let choices = completion.get("choices")?.as_array()?;
    let is_chat = completion.get("object").is_none_or(|object| object != "text_completion");
    let frame = Frame { completion: &completion, is_chat };
    let mut events = String::new();
    for choice in choices {
        for part in frame.parts(choice) {
            events.push_str(&frame.event(json!([part]), Value::Null));
        }
    }
    if wants_usage && let Some(usage) = completion.get("usage") {
        events.push_str(&frame.event(json!([]), usage.clone()));
    }
    events.push_str(DONE);
    Some(events)
}

/// What all chunks of a stream have in common.
struct Frame<'a> {
    completion: &'a Map<String, Value>,
    is_chat: bool,
}

impl Frame<'_> {
    fn event(&self, choices: Value, usage: Value) -> String {
        let mut chunk = self.completion.clone();
        chunk.shift_remove("usage");
        chunk.insert("choices".to_owned(), choices);
        if self.is_chat {
            chunk.insert("object".to_owned(), json!("chat.completion.chunk"));
        }
        if !usage.is_null() {
            chunk.insert("usage".to_owned(), usage);
        }
        format!("data: {}\n\n", Value::Object(chunk))
    }

    /// A choice as the choices of chunks: what it says, and then why it ended.
    fn parts(&self, choice: &Value) -> Vec<Value> {
        let Some(message) = choice.get("message").filter(|_| self.is_chat) else {
            return vec![choice.clone()];
        };
        let index = choice.get("index").cloned().unwrap_or(json!(0));
        let mut said = json!({"index": index, "delta": delta(message), "finish_reason": null});
        if let Some(logprobs) = choice.get("logprobs") {
            said["logprobs"] = logprobs.clone();
        }
        let finish = choice.get("finish_reason").cloned().unwrap_or_default();
        vec![said, json!({"index": index, "delta": {}, "finish_reason": finish})]
    }
}

/// A message as a delta: the calls of tools have an index there.
fn delta(message: &Value) -> Value {
    let mut delta = message.clone();
    if let Some(calls) = delta.get_mut("tool_calls").and_then(Value::as_array_mut) {
        for (index, call) in calls.iter_mut().enumerate() {
            if let Some(call) = call.as_object_mut() {
                call.entry("index").or_insert(json!(index));
            }
        }
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(events: &str) -> Vec<Value> {
        let events = events.strip_suffix(DONE).unwrap();
        events.split_terminator("\n\n").map(|e| serde_json::from_str(&e["data: ".len()..]).unwrap()).collect()
    }

    #[test]
    fn a_chat_completion_becomes_chunks() {
        let body = br#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":
            {"role":"assistant","content":"hi","tool_calls":[{"id":"t"}]},"finish_reason":"stop"}],"usage":{"total_tokens":3}}"#;
        let chunk = |choice: Value| json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]});
        let said = json!({"index": 0, "finish_reason": null, "delta":
            {"role": "assistant", "content": "hi", "tool_calls": [{"id": "t", "index": 0}]}});
        let end = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
        let without = data(&of_completion(body, false).unwrap());
        assert_eq!(without, [chunk(said), chunk(end)]);
        let with = data(&of_completion(body, true).unwrap());
        assert_eq!((&with[2]["choices"], &with[2]["usage"]), (&json!([]), &json!({"total_tokens": 3})));
    }

    #[test]
    fn a_text_completion_is_its_own_chunk_and_what_is_no_completion_is_none() {
        let body =
            br#"{"object":"text_completion","choices":[{"index":0,"text":"hi","finish_reason":"stop"}]}"#;
        let chunks = data(&of_completion(body, false).unwrap());
        assert_eq!(chunks, [serde_json::from_slice::<Value>(body).unwrap()]);
        for other in [&b"\xff"[..], b"[]", b"{}", br#"{"choices":1}"#] {
            assert_eq!(of_completion(other, false), None);
        }
    }
}
