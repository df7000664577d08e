//! How one fault is ordered: its kind and details, as a header or as a marker in a prompt.

use serde::{Deserialize, Serialize};
use sluice_domain::UnknownWord;
use thiserror::Error;

use super::FaultKind;

const MARKER_START: &str = "[[sim:";
const MARKER_END: &str = "]]";

/// A fault with its details.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Details.
    pub params: FaultParams,
}

/// Details of a fault. Each kind uses those that mean something to it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultParams {
    /// Strikes only the first so many calls with exactly this prompt; later ones are answered well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Time to the first token in milliseconds, in place of a drawn one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Tokens of the answer's text, in place of a drawn number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Another HTTP status than the kind's own, for the kinds that answer with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The exact value of a `Retry-After` header, for the kinds that answer with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// When to come back, for the `retry_after_*` kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Between two bytes of a drip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long a stall lasts; without it, for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How large the large things are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// An order that can't be understood.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FaultSyntaxError {
    /// No such kind.
    #[error(transparent)]
    Kind(#[from] UnknownWord),
    /// No such detail.
    #[error(
        "{0:?} is no detail of a fault; known are times, latency_ms, tokens, status, retry_after, after_ms, \
         interval_ms, duration_ms, bytes"
    )]
    Detail(String),
    /// A detail that is no number.
    #[error("the fault's {0} must be a whole number")]
    Number(String),
}

impl FaultParams {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), FaultSyntaxError> {
        fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>, FaultSyntaxError> {
            value.parse().map(Some).map_err(|_| FaultSyntaxError::Number(name.to_owned()))
        }
        match name {
            "times" => self.times = number(name, value)?,
            "latency_ms" => self.latency_ms = number(name, value)?,
            "tokens" => self.tokens = number(name, value)?,
            "status" => self.status = number(name, value)?,
            "retry_after" => self.retry_after = Some(value.to_owned()),
            "after_ms" => self.after_ms = number(name, value)?,
            "interval_ms" => self.interval_ms = number(name, value)?,
            "duration_ms" => self.duration_ms = number(name, value)?,
            "bytes" => self.bytes = number(name, value)?,
            _ => return Err(FaultSyntaxError::Detail(name.to_owned())),
        }
        Ok(())
    }
}

impl Fault {
    /// A fault without details.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, params: FaultParams::default() }
    }

    /// Reads `KIND;key=value;key=value`, the value of the header `x-sim-fault`.
    pub fn from_header(text: &str) -> Result<Self, FaultSyntaxError> {
        Self::from_words(text.split(';').map(str::trim).filter(|word| !word.is_empty()))
    }

    /// Finds and reads the first `[[sim:KIND key=value key=value]]` in a prompt.
    pub fn from_marker(prompt: &str) -> Option<Result<Self, FaultSyntaxError>> {
        marker_in(prompt).map(|words| Self::from_words(words.split_whitespace()))
    }

    fn from_words<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, FaultSyntaxError> {
        let mut fault = Self::new(words.next().unwrap_or_default().parse()?);
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            fault.params.set(name, value)?;
        }
        Ok(fault)
    }
}

/// What stands between `[[sim:` and `]]` in a prompt, if anything does.
pub(crate) fn marker_in(prompt: &str) -> Option<&str> {
    let start = prompt.find(MARKER_START)? + MARKER_START.len();
    let length = prompt[start..].find(MARKER_END)?;
    Some(&prompt[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_with_its_details() {
        let prompt = "Translate [[sim:retry_after_seconds times=2 after_ms=1500]] this";
        let fault = Fault::from_marker(prompt).unwrap().unwrap();
        assert_eq!(fault.kind, FaultKind::RetryAfterSeconds);
        let params = FaultParams { times: Some(2), after_ms: Some(1500), ..FaultParams::default() };
        assert_eq!(fault.params, params);
        assert!(Fault::from_marker("no [[sim: marker").is_none());
    }

    #[test]
    fn a_header_is_read_with_its_details() {
        let fault = Fault::from_header("http_503; retry_after=Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        assert_eq!(fault.params.retry_after.as_deref(), Some("Wed, 21 Oct 2026 07:28:00 GMT"));
    }

    #[test]
    fn a_wrong_order_says_what_would_be_right() {
        let text = |header| Fault::from_header(header).unwrap_err().to_string();
        assert!(text("http_5000").contains("http_500"));
        assert!(text("hang;tmies=2").contains("known are times"));
        assert!(text("hang;times=two").contains("whole number"));
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
