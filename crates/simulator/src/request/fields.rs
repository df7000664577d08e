//! Fields of a request's body by type and range, with the refusals that the real APIs give.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{api_error::ApiError, config::Dialect};

/// The fields of a body, in the dialect in which they are refused.
pub(crate) struct Fields<'a> {
    pub(crate) map: &'a Map<String, Value>,
    pub(crate) dialect: Dialect,
}

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn bad(&self, name: &str, message: &str) -> ApiError {
        ApiError::bad_field(self.dialect, name, message)
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a Value, ApiError> {
        self.get(name).ok_or_else(|| match self.dialect {
            Dialect::Deepseek => self.bad(name, &format!("missing field `{name}`")),
            Dialect::Openai => {
                let message = format!("Missing required parameter: '{name}'.");
                ApiError::new(400, "invalid_request_error", Some("missing_required_parameter"), message)
                    .about(name)
            }
        })
    }

    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name).map(|v| v.as_bool().ok_or_else(|| self.bad(name, "expected a boolean"))).transpose()
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.get(name).map(|v| v.as_str().ok_or_else(|| self.bad(name, "expected a string"))).transpose()
    }

    /// A number in `range`; a number outside is refused with 400 in both dialects.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| self.bad(name, "expected a number"))?;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let (low, high) = (range.start(), range.end());
        let message = format!("Invalid {name} value, the valid range of {name} is [{low}, {high}]");
        Err(ApiError::out_of_range(name, message))
    }

    /// A whole number in `range`.
    pub(crate) fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if !value.is_i64() && !value.is_u64() {
            return Err(self.bad(name, "expected an integer"));
        }
        if let Some(number) = value.as_u64().filter(|number| range.contains(number)) {
            return Ok(Some(number));
        }
        let (low, high) = (range.start(), range.end());
        let message = format!("Invalid {name} value, the valid range of {name} is [{low}, {high}]");
        Err(ApiError::out_of_range(name, message))
    }

    /// One word out of `words`.
    pub(crate) fn word(&self, name: &str, words: &[&str]) -> Result<Option<&'a str>, ApiError> {
        let Some(word) = self.string(name)? else { return Ok(None) };
        if words.contains(&word) {
            return Ok(Some(word));
        }
        Err(self.bad(name, &format!("unknown variant `{word}`, expected one of {}", words.join(", "))))
    }

    /// OpenAI refuses parameters that it doesn't know; DeepSeek ignores them.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) -> Result<(), ApiError> {
        if self.dialect == Dialect::Deepseek {
            return Ok(());
        }
        match self.map.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let message = format!("Unknown parameter: '{name}'.");
                Err(ApiError::new(400, "invalid_request_error", Some("unknown_parameter"), message)
                    .about(name))
            }
            None => Ok(()),
        }
    }
}
