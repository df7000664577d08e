//! A small instance of a JSON schema: what a model with structured outputs would answer. Not a validator; keywords
//! other than type, properties, items, enum, const, anyOf and minItems are not looked at.

use serde_json::{Map, Value, json};

use crate::random::SplitMix;

/// Schemas nest no deeper than this here; what is deeper becomes null.
const MAX_DEPTH: u32 = 16;

/// A value that fits `schema`, whose strings hold `tag`.
pub(crate) fn instance(schema: &Value, tag: &str, random: &mut SplitMix) -> Value {
    instance_at(schema, tag, random, 0)
}

fn instance_at(schema: &Value, tag: &str, random: &mut SplitMix, depth: u32) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty()) {
        return values[random.next_in(0, values.len() as u64 - 1) as usize].clone();
    }
    if let Some(first) = schema.get("anyOf").and_then(|any| any.get(0)) {
        return instance_at(first, tag, random, depth + 1);
    }
    let kind = schema.get("type").map(|kind| kind.get(0).unwrap_or(kind));
    match kind.and_then(Value::as_str) {
        Some("string") => json!(format!("{tag} {}", random.next_in(0, 999))),
        Some("integer") => json!(random.next_in(0, 999)),
        Some("number") => json!(random.next_in(0, 999) as f64 / 10.0),
        Some("boolean") => json!(random.next_in(0, 1) == 1),
        Some("array") => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(64);
            let items = schema.get("items").unwrap_or(&Value::Null);
            (0..count).map(|_| instance_at(items, tag, random, depth + 1)).collect()
        }
        Some("null") => Value::Null,
        _ => match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => Value::Object(
                properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), instance_at(schema, tag, random, depth + 1)))
                    .collect::<Map<_, _>>(),
            ),
            None => json!({}),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_the_types_of_its_schema() {
        let schema = json!({"type": "object", "properties": {
            "name": {"type": "string"}, "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2}}});
        let value = instance(&schema, "tag", &mut SplitMix::from_parts(&[1]));
        assert!(value["name"].as_str().unwrap().starts_with("tag"));
        assert!(value["age"].is_u64());
        assert_eq!(value["tags"].as_array().unwrap().len(), 2);
    }
}
