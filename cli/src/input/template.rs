//! Templates: text with `{field}` in it, filled from a line's own fields. `{{` and `}}` stand for braces.

use std::str::FromStr;

use super::field::{Fields, kind, text};

/// A parsed template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    parts: Vec<Part>,
    source: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a field is filled in by it.
    pub fn uses(&self, field: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(name) if name == field))
    }

    /// Fills it in; the error is a reason that names what is missing and what is there.
    pub fn fill(&self, fields: &Fields<'_>) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => filled.push_str(literal),
                Part::Field(name) => {
                    let Some(value) = fields.get(name) else {
                        return Err(format!(
                            "has no {name:?}, which the template asks for; it has {}",
                            fields.names()
                        ));
                    };
                    if kind(value) == "text" {
                        filled.push_str(&text(name, value)?);
                    } else {
                        filled.push_str(value.get());
                    }
                }
            }
        }
        Ok(filled)
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(source: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if from.starts_with('}') {
                return Err("a single } stands in it; write }} for a brace".to_owned());
            } else {
                let end = from.find('}').ok_or("a { is never closed; write {{ for a brace")?;
                let name = from[1..end].trim();
                if name.is_empty() || name.contains('{') {
                    return Err(format!("{:?} names no field; write {{{{ for a brace", &from[..=end]));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Field(name.to_owned()));
                rest = &from[end + 1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.is_empty() {
            return Err("it is empty".to_owned());
        }
        Ok(Self { parts, source: source.to_owned() })
    }
}
