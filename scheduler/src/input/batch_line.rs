//! One line of a batch's file: `{"custom_id", "method": "POST", "url", "body"}`.

use serde_json::value::RawValue;

use super::{
    InvalidInput,
    fields::{members_of_document, string, wrong_type},
    members::Members,
};

/// The longest `custom_id`, in bytes: it becomes a tag of the job.
const MAX_CUSTOM_ID_BYTES: usize = 512;

/// A line that is well-formed.
pub(crate) struct BatchRequest<'a> {
    /// The user's name for it.
    pub(crate) custom_id: String,
    /// The provider's request.
    pub(crate) body: &'a RawValue,
}

/// Checks a line of a batch whose lines all call `endpoint`.
pub(crate) fn parse_batch_line<'a>(line: &'a [u8], endpoint: &str) -> Result<BatchRequest<'a>, InvalidInput> {
    let members = members_of_document(line)?;
    let custom_id = needed(&members, "custom_id")?;
    if custom_id.is_empty()
        || custom_id.len() > MAX_CUSTOM_ID_BYTES
        || custom_id.chars().any(char::is_control)
    {
        let message =
            format!("custom_id must have 1 to {MAX_CUSTOM_ID_BYTES} bytes without control characters");
        return Err(InvalidInput::value("custom_id", message));
    }
    let method = needed(&members, "method")?;
    if method != "POST" {
        return Err(InvalidInput::at("method", "invalid_method", "method must be POST"));
    }
    let url = needed(&members, "url")?;
    if url != endpoint {
        let message = format!("url must be the batch's endpoint, {endpoint}");
        return Err(InvalidInput::at("url", "mismatched_url", message));
    }
    let Some(body) = present(&members, "body") else { return Err(missing("body")) };
    if !body.get().starts_with('{') {
        return Err(wrong_type("body".to_owned(), "an object", body));
    }
    Ok(BatchRequest { custom_id, body })
}

fn present<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    members.last(name).filter(|raw| raw.get() != "null")
}

fn needed(members: &Members<'_>, name: &str) -> Result<String, InvalidInput> {
    let raw = present(members, name).ok_or_else(|| missing(name))?;
    string(name.to_owned(), raw)
}

fn missing(name: &str) -> InvalidInput {
    InvalidInput::at(name, "missing_required_parameter", format!("{name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = "/v1/chat/completions";

    #[test]
    fn a_line_gives_its_name_and_its_body_as_it_stands() {
        let line = br#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"x" : 1.10}}"#;
        let request = parse_batch_line(line, ENDPOINT).unwrap();
        assert_eq!((request.custom_id.as_str(), request.body.get()), ("a", r#"{"x" : 1.10}"#));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        let line =
            |members: &str| format!(r#"{{"custom_id":"a","method":"POST","url":"{ENDPOINT}",{members}}}"#);
        for (text, code, param) in [
            ("{".to_owned(), "malformed_json", None),
            ("[]".to_owned(), "not_an_object", None),
            ("{}".to_owned(), "missing_required_parameter", Some("custom_id")),
            (line(r#""custom_id":"""#), "invalid_value", Some("custom_id")),
            (line(r#""custom_id":7"#), "invalid_type", Some("custom_id")),
            (line(r#""method":"GET""#), "invalid_method", Some("method")),
            (line(r#""url":"/v1/embeddings""#), "mismatched_url", Some("url")),
            (line(r#""body":null"#), "missing_required_parameter", Some("body")),
            (line(r#""body":"x""#), "invalid_type", Some("body")),
        ] {
            let error = parse_batch_line(text.as_bytes(), ENDPOINT).err().unwrap();
            assert_eq!((error.code, error.pointer.as_deref()), (code, param), "{text}");
        }
    }
}
