//! The body as it goes to the upstream: with the model name that the upstream knows, else as it was submitted.
//!
//! Members that don't change keep their exact bytes and order (numbers that no float can hold, odd escapes); where
//! nothing has to change, the submitted bytes go out as they are.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use sluice_policy::{
    classify::{AnswerShape, Expectation, is_json_mode},
    streaming::is_worth_a_stream,
};

use crate::CallRequest;

/// A body that is ready to go.
#[derive(Debug)]
pub(crate) struct PreparedBody {
    /// The bytes to send.
    pub(crate) bytes: Bytes,
    /// Whether they ask for a stream.
    pub(crate) is_streamed: bool,
    /// What the answer is judged by.
    pub(crate) expected: Expectation,
}

/// The members of a JSON object as they were written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Members<'_> {
    /// The last member of this name: the one that counts for nearly every parser.
    fn value(&self, name: &str) -> Option<Value> {
        let raw = self.0.iter().rev().find(|(key, _)| key == name)?.1;
        serde_json::from_str(raw.get()).ok()
    }
}

/// Makes the body of a request; `None` where what was submitted is no JSON object. `may_choose_stream`: what is large or
/// slow is streamed although it does not ask for it.
pub(crate) fn prepare(request: &CallRequest, may_choose_stream: bool) -> Option<PreparedBody> {
    let CallRequest { path, model, body: submitted, .. } = request;
    let members: Members<'_> = serde_json::from_slice(submitted).ok()?;
    let shape = AnswerShape::of(path);
    let response_format = serde_json::json!({ "response_format": members.value("response_format") });
    let expected = Expectation { shape, is_json_mode: is_json_mode(&response_format) };
    let is_completion = matches!(shape, AnswerShape::Chat | AnswerShape::Completion);
    let is_asked = is_completion && members.value("stream") == Some(Value::Bool(true));
    let is_chosen = is_completion && !is_asked && may_choose_stream && is_worth_it(&members, request);
    let is_streamed = is_asked || is_chosen;

    let mut changes = Vec::new();
    if members.value("model").as_ref().and_then(Value::as_str) != Some(model.as_str()) {
        changes.push(("model", Value::from(model.as_str())));
    }
    if is_chosen {
        changes.push(("stream", Value::Bool(true)));
    }
    if is_streamed {
        let options = members.value("stream_options");
        if options.as_ref().is_none_or(|options| options["include_usage"] != true) {
            changes.push(("stream_options", with_usage(options)));
        }
    }
    let bytes = if changes.is_empty() { submitted.clone() } else { rewritten(&members, &changes) };
    Some(PreparedBody { bytes, is_streamed, expected })
}

/// Whether the call is large or slow, and nothing is in it that comes in another form in a stream.
fn is_worth_it(members: &Members<'_>, request: &CallRequest) -> bool {
    let number = |name: &str| members.value(name).as_ref().and_then(Value::as_u64);
    let max_tokens = number("max_completion_tokens").or_else(|| number("max_tokens"));
    let is_said = |name: &str| members.value(name).is_some_and(|value| !value.is_null());
    is_worth_a_stream(request.body.len(), max_tokens, request.usual_duration)
        && !["audio", "modalities", "best_of", "echo"].into_iter().any(is_said)
}

/// Without the usage on a trailing chunk, a streamed call could only be charged at its estimate.
fn with_usage(options: Option<Value>) -> Value {
    let mut options = match options {
        Some(Value::Object(options)) => options,
        _ => serde_json::Map::new(),
    };
    options.insert("include_usage".to_owned(), Value::Bool(true));
    Value::Object(options)
}

fn rewritten(members: &Members<'_>, changes: &[(&str, Value)]) -> Bytes {
    let replacement =
        |key: &str| changes.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_string());
    let mut parts: Vec<String> = members
        .0
        .iter()
        .map(|(key, raw)| member(key, &replacement(key).unwrap_or_else(|| raw.get().to_owned())))
        .collect();
    let added = changes.iter().filter(|(name, _)| members.0.iter().all(|(key, _)| key != name));
    parts.extend(added.map(|(name, value)| member(name, &value.to_string())));
    Bytes::from(format!("{{{}}}", parts.join(",")))
}

fn member(key: &str, json: &str) -> String {
    format!("{}:{json}", Value::from(key))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sluice_domain::{ApiPath, CallId, ModelName};

    use super::*;
    use crate::MayBegin;

    fn request(body: impl Into<Bytes>, model: &str) -> CallRequest {
        CallRequest {
            call_id: CallId::generate(),
            path: ApiPath::default(),
            model: ModelName::new(model).unwrap(),
            body: body.into(),
            traceparent: None,
            usual_duration: None,
            may_begin: MayBegin::default(),
        }
    }

    fn prepared(body: &'static str, model: &str) -> Option<PreparedBody> {
        prepare(&request(body, model), true)
    }

    #[test]
    fn what_is_large_or_slow_is_streamed_if_it_may_be() {
        let large = r#"{"model":"m","stream":false,"max_tokens":4000}"#;
        let body = prepared(large, "m").unwrap();
        assert!(body.is_streamed);
        let expected =
            r#"{"model":"m","stream":true,"max_tokens":4000,"stream_options":{"include_usage":true}}"#;
        assert_eq!(body.bytes, expected);
        assert_eq!(prepare(&request(large, "m"), false).unwrap().bytes, large);
        let small = request(r#"{"model":"m"}"#, "m");
        assert!(!prepare(&small, true).unwrap().is_streamed);
        let slow = CallRequest { usual_duration: Some(Duration::from_mins(1)), ..small };
        assert!(prepare(&slow, true).unwrap().is_streamed);
        let embeddings = CallRequest { path: ApiPath::new("/v1/embeddings").unwrap(), ..slow };
        assert!(!prepare(&embeddings, true).unwrap().is_streamed);
        let spoken = r#"{"model":"m","max_tokens":4000,"modalities":["audio"]}"#;
        assert!(!prepared(spoken, "m").unwrap().is_streamed);
    }

    #[test]
    fn a_body_with_the_right_model_goes_out_byte_for_byte() {
        let body = " {\"model\" : \"m\",\n \"n\":1.10, \"x\":\"\\u0041\"} ";
        assert_eq!(prepared(body, "m").unwrap().bytes, body);
    }

    #[test]
    fn only_the_model_changes() {
        let body =
            r#"{"seed":12345678901234567890123, "model":"a", "t":1.10,"messages":[{"content":"\u00e9"}]}"#;
        let expected =
            r#"{"seed":12345678901234567890123,"model":"b","t":1.10,"messages":[{"content":"\u00e9"}]}"#;
        assert_eq!(prepared(body, "b").unwrap().bytes, expected);
        assert_eq!(prepared(r#"{"a":1}"#, "q\"x").unwrap().bytes, r#"{"a":1,"model":"q\"x"}"#);
        assert_eq!(prepared("{}", "b").unwrap().bytes, r#"{"model":"b"}"#);
        let twice = r#"{"model":"a","model":"c"}"#;
        assert_eq!(prepared(twice, "b").unwrap().bytes, r#"{"model":"b","model":"b"}"#);
    }

    #[test]
    fn a_stream_is_asked_for_its_usage() {
        let body = prepared(r#"{"model":"m","stream":true}"#, "m").unwrap();
        assert!(body.is_streamed);
        assert_eq!(body.bytes, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        let has = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(prepared(has, "m").unwrap().bytes, has);
        assert!(!prepared(r#"{"model":"m","stream":false}"#, "m").unwrap().is_streamed);
    }

    #[test]
    fn what_is_no_object_is_not_sent() {
        for body in ["", "[]", "\"x\"", "{", "{}x", "null"] {
            assert!(prepared(body, "m").is_none(), "{body}");
        }
    }

    #[test]
    fn json_mode_is_seen() {
        let body = r#"{"model":"m","response_format":{"type":"json_object"}}"#;
        assert!(prepared(body, "m").unwrap().expected.is_json_mode);
        assert!(!prepared(r#"{"model":"m"}"#, "m").unwrap().expected.is_json_mode);
    }
}
