//! What an answer means: a result, or a failure of which class.
//!
//! From the status and the body alone. Not here: what follows from it (`retry`), and calls without an answer, whose
//! class is what was seen on the wire (`provider`).

use serde_json::Value;
use sluice_domain::{ApiPath, ErrorClass};

/// What the API promises to answer with on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerShape {
    /// `choices` with a `message` each.
    Chat,
    /// `choices` with a `text` each.
    Completion,
    /// `data`, a list.
    Embeddings,
    /// Anything, perhaps not JSON at all (speech, images).
    Other,
}

impl AnswerShape {
    /// The shape of the answers on `path`.
    pub fn of(path: &ApiPath) -> Self {
        let path = path.as_str();
        if path.ends_with("/chat/completions") {
            Self::Chat
        } else if path.ends_with("/completions") {
            Self::Completion
        } else if path.ends_with("/embeddings") {
            Self::Embeddings
        } else {
            Self::Other
        }
    }
}

/// What the request asked for, as far as the answer is judged by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// The shape of the answer.
    pub shape: AnswerShape,
    /// Whether the request had `response_format: {type: json_object}`.
    pub is_json_mode: bool,
}

/// Whether a request asks for JSON mode.
pub fn is_json_mode(request: &Value) -> bool {
    request["response_format"]["type"] == "json_object"
}

/// Judges an answer: `Ok` is a result. `answer` is its body as JSON, where it is JSON (see [`crate::answer_json`]).
pub fn classify(status: u16, answer: Option<&Value>, expected: Expectation) -> Result<(), ErrorClass> {
    if !(200..300).contains(&status) {
        return Err(class_of_status(status, answer));
    }
    if let Some(error) = answer.map(|body| &body["error"]).filter(|error| !error.is_null()) {
        return Err(class_of_error_object(error));
    }
    match (expected.shape, answer) {
        (AnswerShape::Other, _) => Ok(()),
        (_, None) => Err(ErrorClass::MalformedAnswer),
        (AnswerShape::Embeddings, Some(body)) => list(&body["data"]).map(|_| ()),
        (_, Some(body)) => judge_choices(list(&body["choices"])?, expected),
    }
}

fn class_of_status(status: u16, answer: Option<&Value>) -> ErrorClass {
    match status {
        401 => ErrorClass::Unauthorized,
        402 => ErrorClass::QuotaExhausted,
        403 => ErrorClass::Forbidden,
        // Redirects are not followed: a base URL that redirects is not the API.
        300..400 | 404 => ErrorClass::NotFound,
        408 | 499 | 504 => ErrorClass::UpstreamTimeout,
        409 => ErrorClass::Conflict,
        429 if answer.is_some_and(|body| is_quota(&body["error"])) => ErrorClass::QuotaExhausted,
        429 => ErrorClass::RateLimited,
        503 | 529 => ErrorClass::Overloaded,
        400..500 => ErrorClass::InvalidRequest,
        500..600 => ErrorClass::ServerError,
        _ => ErrorClass::MalformedAnswer,
    }
}

fn is_quota(error: &Value) -> bool {
    error["type"] == "insufficient_quota" || error["code"] == "insufficient_quota"
}

/// An error in an answer that called itself a success, or in a stream. Some servers put the status into `code`.
fn class_of_error_object(error: &Value) -> ErrorClass {
    if is_quota(error) {
        return ErrorClass::QuotaExhausted;
    }
    match error["code"].as_u64().and_then(|code| u16::try_from(code).ok()) {
        Some(status @ 400..600) => class_of_status(status, None),
        _ => ErrorClass::MalformedAnswer,
    }
}

fn list(value: &Value) -> Result<&[Value], ErrorClass> {
    value.as_array().filter(|list| !list.is_empty()).map(Vec::as_slice).ok_or(ErrorClass::MalformedAnswer)
}

fn judge_choices(choices: &[Value], expected: Expectation) -> Result<(), ErrorClass> {
    let contents = choices.iter().map(|choice| content(choice, expected.shape));
    let contents = contents.collect::<Result<Vec<_>, _>>()?;
    if choices.iter().any(|choice| choice["finish_reason"] == "insufficient_system_resource") {
        return Err(ErrorClass::IncompleteAnswer);
    }
    if expected.is_json_mode && contents.iter().any(|c| matches!(c, Content::Empty | Content::Blank)) {
        return Err(ErrorClass::InvalidOutput);
    }
    let is_empty_stop = |(choice, content): (&Value, &Content)| {
        choice["finish_reason"] == "stop" && matches!(content, Content::Empty)
    };
    if choices.iter().zip(&contents).all(is_empty_stop) {
        return Err(ErrorClass::IncompleteAnswer);
    }
    Ok(())
}

enum Content {
    Empty,
    Blank,
    Something,
}

/// What is in a choice. Reasoning alone is no answer.
fn content(choice: &Value, shape: AnswerShape) -> Result<Content, ErrorClass> {
    if shape == AnswerShape::Completion {
        return text(&choice["text"]);
    }
    let message = choice["message"].as_object().ok_or(ErrorClass::MalformedAnswer)?;
    let holds_more = ["tool_calls", "function_call", "refusal", "audio"]
        .into_iter()
        .filter_map(|key| message.get(key))
        .any(|value| {
            !matches!(value, Value::Null) && value != "" && value.as_array().is_none_or(|a| !a.is_empty())
        });
    if holds_more { Ok(Content::Something) } else { text(message.get("content").unwrap_or(&Value::Null)) }
}

fn text(value: &Value) -> Result<Content, ErrorClass> {
    match value {
        Value::Null => Ok(Content::Empty),
        Value::String(text) if text.is_empty() => Ok(Content::Empty),
        Value::String(text) if text.trim().is_empty() => Ok(Content::Blank),
        Value::Array(parts) if parts.is_empty() => Ok(Content::Empty),
        Value::String(_) | Value::Array(_) => Ok(Content::Something),
        _ => Err(ErrorClass::MalformedAnswer),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const CHAT: Expectation = Expectation { shape: AnswerShape::Chat, is_json_mode: false };
    const JSON_MODE: Expectation = Expectation { is_json_mode: true, ..CHAT };

    fn answered(content: &Value, finish_reason: &str) -> Value {
        json!({"choices": [{"index": 0, "message": {"content": content}, "finish_reason": finish_reason}]})
    }

    #[test]
    fn every_status_has_its_class() {
        use ErrorClass as E;
        for (status, class) in [
            (302, E::NotFound),
            (400, E::InvalidRequest),
            (401, E::Unauthorized),
            (402, E::QuotaExhausted),
            (403, E::Forbidden),
            (404, E::NotFound),
            (408, E::UpstreamTimeout),
            (409, E::Conflict),
            (413, E::InvalidRequest),
            (418, E::InvalidRequest),
            (422, E::InvalidRequest),
            (429, E::RateLimited),
            (499, E::UpstreamTimeout),
            (500, E::ServerError),
            (502, E::ServerError),
            (503, E::Overloaded),
            (504, E::UpstreamTimeout),
            (520, E::ServerError),
            (529, E::Overloaded),
            (600, E::MalformedAnswer),
        ] {
            assert_eq!(classify(status, None, CHAT), Err(class), "{status}");
        }
    }

    #[test]
    fn a_429_without_quota_is_permanent() {
        for field in ["type", "code"] {
            let body = json!({"error": {"message": "pay", field: "insufficient_quota"}});
            assert_eq!(classify(429, Some(&body), CHAT), Err(ErrorClass::QuotaExhausted));
        }
        let body = json!({"error": {"code": "rate_limit_exceeded"}});
        assert_eq!(classify(429, Some(&body), CHAT), Err(ErrorClass::RateLimited));
    }

    #[test]
    fn successes_are_results_only_when_they_hold_an_answer() {
        use ErrorClass as E;
        for (content, finish, expected, verdict) in [
            (json!("hi"), "stop", CHAT, Ok(())),
            (json!("hi"), "length", CHAT, Ok(())),
            (json!(""), "length", CHAT, Ok(())),
            (json!(null), "content_filter", CHAT, Ok(())),
            (json!(" \n"), "stop", CHAT, Ok(())),
            (json!(""), "stop", CHAT, Err(E::IncompleteAnswer)),
            (json!(null), "stop", CHAT, Err(E::IncompleteAnswer)),
            (json!("half an ans"), "insufficient_system_resource", CHAT, Err(E::IncompleteAnswer)),
            (json!("{}"), "stop", JSON_MODE, Ok(())),
            (json!(" \n\n "), "stop", JSON_MODE, Err(E::InvalidOutput)),
            (json!(""), "stop", JSON_MODE, Err(E::InvalidOutput)),
            (json!(42), "stop", CHAT, Err(E::MalformedAnswer)),
        ] {
            let body = answered(&content, finish);
            assert_eq!(classify(200, Some(&body), expected), verdict, "{body}");
        }
    }

    #[test]
    fn a_tool_call_is_an_answer_without_content() {
        let message = json!({"content": null, "tool_calls": [{"id": "1"}]});
        let body = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
        assert_eq!(classify(200, Some(&body), CHAT), Ok(()));
        assert_eq!(classify(200, Some(&body), JSON_MODE), Ok(()));
    }

    #[test]
    fn an_error_in_a_success_is_no_success() {
        use ErrorClass as E;
        for (error, class) in [
            (json!({"message": "internal"}), E::MalformedAnswer),
            (json!("oops"), E::MalformedAnswer),
            (json!({"type": "insufficient_quota"}), E::QuotaExhausted),
            (json!({"code": 429}), E::RateLimited),
            (json!({"code": 502}), E::ServerError),
        ] {
            let body = json!({"error": error});
            assert_eq!(classify(200, Some(&body), CHAT), Err(class), "{body}");
        }
        let mut fine = answered(&json!("hi"), "stop");
        fine["error"] = Value::Null;
        assert_eq!(classify(200, Some(&fine), CHAT), Ok(()));
    }

    #[test]
    fn a_success_of_another_shape_is_malformed() {
        let malformed = Err(ErrorClass::MalformedAnswer);
        assert_eq!(classify(200, None, CHAT), malformed);
        for body in [json!([]), json!("x"), json!({}), json!({"choices": "x"}), json!({"choices": []})] {
            assert_eq!(classify(200, Some(&body), CHAT), malformed, "{body}");
        }
        let embeddings = Expectation { shape: AnswerShape::Embeddings, is_json_mode: false };
        assert_eq!(classify(200, Some(&json!({"data": [{"embedding": [0.1]}]})), embeddings), Ok(()));
        assert_eq!(classify(200, Some(&json!({"data": []})), embeddings), malformed);
        let other = Expectation { shape: AnswerShape::Other, is_json_mode: false };
        assert_eq!(classify(200, None, other), Ok(()));
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in any::<u16>(), body in r#"\{"(choices|error|data)":[\[\]{}0-9"a:,]{0,60}\}"#.prop_map(String::into_bytes)) {
            let _ = classify(status, serde_json::from_slice(&body).ok().as_ref(), JSON_MODE);
        }
    }
}
