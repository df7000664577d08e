//! The body of an answer as JSON, for judging it; what is kept are its bytes.
//!
//! Lenient: model output may hold raw control characters or broken UTF-8. Such an answer was paid for and is kept as
//! it came, so it must not be taken for a broken one. Bounded: a body of some megabytes can hold a hundred times its
//! size in tiny values.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values that are taken from one body. No honest answer has so many outside of what is left out anyway.
const MAX_VALUES: usize = 100_000;

/// Members that say nothing about what the answer is worth: long ones, and small ones that every answer has.
const LEFT_OUT: [&str; 8] = [
    "embedding",
    "logprobs",
    "object",
    "created",
    "role",
    "system_fingerprint",
    "service_tier",
    "total_tokens",
];

/// All of `body`.
pub fn lenient_json(body: &[u8]) -> Option<Value> {
    leniently(body, |bytes| serde_json::from_slice(bytes).ok())
}

/// What a verdict needs of `body`: what says nothing about it is left out, lists end where there are too many values.
pub fn json_digest(body: &[u8]) -> Option<Value> {
    leniently(body, |bytes| {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let digest = Digest { values_left: &Cell::new(MAX_VALUES) }.deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        Some(digest)
    })
}

fn leniently(body: &[u8], parse: impl Fn(&[u8]) -> Option<Value>) -> Option<Value> {
    let starts_json = body.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'['));
    if !starts_json {
        return None;
    }
    parse(body).or_else(|| {
        let text = String::from_utf8_lossy(body);
        let has_control = text.bytes().any(|byte| byte.is_ascii_control());
        if matches!(text, Cow::Borrowed(_)) && !has_control {
            return None;
        }
        let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        parse(spaced.as_bytes())
    })
}

/// Builds a value while there are some left.
#[derive(Clone, Copy)]
struct Digest<'a> {
    values_left: &'a Cell<usize>,
}

impl Digest<'_> {
    fn take_one(self) -> bool {
        let left = self.values_left.get();
        self.values_left.set(left.saturating_sub(1));
        left > 0
    }
}

impl<'de> DeserializeSeed<'de> for Digest<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Digest<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while self.take_one() {
            match list.next_element_seed(self)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.take_one() && !LEFT_OUT.contains(&key.as_ref()) {
                let value = map.next_value_seed(self)?;
                members.insert(key.into_owned(), value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_and_broken_utf8_do_not_make_an_answer_malformed() {
        for bytes in [&b"\0"[..], b"\xff\xfe", b"\n\t\x01\x7f"] {
            let body = [&br#"{"a":"x"#[..], bytes, br#"y"}"#].concat();
            assert!(json_digest(&body).unwrap()["a"].is_string());
            assert!(lenient_json(&body).unwrap()["a"].is_string());
        }
        for broken in [&br#"{"choices":[{"mess"#[..], br#"{"choices":[]}garbage"#, b"", b"\0\0", b"ID3\x04"] {
            assert_eq!(json_digest(broken), None);
        }
    }

    #[test]
    fn what_is_long_and_says_nothing_is_left_out() {
        let body = br#"{"data":[{"index":0,"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":1}}"#;
        assert_eq!(json_digest(body), Some(json!({"data": [{"index": 0}], "usage": {"prompt_tokens": 1}})));
    }

    #[test]
    fn a_body_of_tiny_values_is_bounded() {
        let body = format!(r#"{{"choices":[{}0]}}"#, "0,".repeat(1_000_000));
        let digest = json_digest(body.as_bytes()).unwrap();
        assert!(digest["choices"].as_array().unwrap().len() <= MAX_VALUES);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            json_digest(&body);
            json_digest(&[b"{\"a\":\"", &body[..], b"\"}"].concat());
        }
    }
}
