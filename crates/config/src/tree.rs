//! The text as a tree in which each value knows its place.
//!
//! Reading a tree, rather than deriving `Deserialize` on each type, is what lets all problems be reported together,
//! each with its path, and lets unknown keys name the nearest known one.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, NonFiniteFloatPolicy, SnippetMode, Spanned, UserMessageFormatter, budget};

use crate::problem::{ConfigErrors, Problem};

/// The largest text that is read: a configuration of this size is a mistake.
const MAX_BYTES: usize = 1024 * 1024;

/// A value and its place.
pub(crate) type Node = Spanned<Value>;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Null,
    Boolean,
    Integer(i128),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(Spanned<String>, Node)>),
}

impl Value {
    /// What it is, in a word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Boolean => "true or false",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Reads YAML. An error is one of syntax and stands alone: what follows it can't be trusted.
pub(crate) fn read(text: &str) -> Result<Node, ConfigErrors> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_BYTES} are allowed", text.len());
        return Err(ConfigErrors(vec![Problem { path: String::new(), position: None, message }]));
    }
    if text.trim().is_empty() {
        return Ok(Spanned::new(Value::Null, Location::UNKNOWN, Location::UNKNOWN));
    }
    let options = serde_saphyr::options! {
        budget: budget! { max_depth: 32, max_aliases: 1000, max_events: 200_000 },
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        // A snippet would quote the text, and the text may hold what should have been a reference.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let rendering = serde_saphyr::render_options! {
            formatter: &UserMessageFormatter,
            snippets: SnippetMode::Off,
        };
        let position = error.location().map(|at| (at.line(), at.column())).filter(|(line, _)| *line > 0);
        let rendered = error.render_with_options(rendering);
        // The place is told apart from the message.
        let message = rendered.split(" at line ").next().unwrap_or(&rendered).to_owned();
        let message = format!("not valid YAML: {message}");
        ConfigErrors(vec![Problem { path: String::new(), position, message }])
    })
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Boolean)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(number).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Mapping(entries))
    }
}
