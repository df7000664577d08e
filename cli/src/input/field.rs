//! The fields of a line, with their values as they stand in it.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of a JSON object, in order, each once.
#[derive(Debug)]
pub struct Fields<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object; the error is a reason that reads after "the line".
    pub fn parse(text: &'a str, what: &str) -> Result<Self, String> {
        let fields: Self = serde_json::from_str(text).map_err(|error| json_problem(&error))?;
        let mut seen = HashSet::with_capacity(fields.0.len());
        if let Some((name, _)) = fields.0.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(format!("{what}has the field {name:?} twice"));
        }
        Ok(fields)
    }

    /// A field's value; `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(field, _)| field == name).map(|(_, value)| *value);
        found.filter(|value| value.get() != "null")
    }

    /// The names, for an error.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).take(20).collect();
        if names.is_empty() { "no fields".to_owned() } else { names.join(", ") }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(4);
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

/// A parser's error, without the line number that it counts within our line.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string().replace(" at line 1 column ", " at column ");
    format!("is not valid JSON: {text}")
}

/// What kind of value it is, for an error.
pub fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The text of a field.
pub fn text(name: &str, value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|_| format!("{name} must be text, not {}", kind(value)))
}

/// Text as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
