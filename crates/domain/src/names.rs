//! Names that users choose, checked where they enter.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name that can't be used, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{what} {problem}")]
pub struct InvalidName {
    /// Which kind of name.
    pub what: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max_bytes:literal, $accepts:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The longest that is accepted, in bytes.
            pub const MAX_BYTES: usize = $max_bytes;

            /// Checks a name that a user gave.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let problem = if text.is_empty() {
                    Some("must not be empty".to_owned())
                } else if text.len() > Self::MAX_BYTES {
                    Some(format!("has {} bytes; at most {} are allowed", text.len(), Self::MAX_BYTES))
                } else if !$accepts(text.as_str()) {
                    Some($rule.to_owned())
                } else {
                    None
                };
                match problem {
                    Some(problem) => Err(InvalidName { what: $what, problem }),
                    None => Ok(Self(text)),
                }
            }

            /// Takes a name as it is stored: it was checked when it was written.
            pub fn from_stored(text: String) -> Self {
                Self(text)
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn no_control(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn identifier(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
}

fn api_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.contains("..")
        && !text.contains("//")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b':'))
}

name!(
    /// Who owns jobs.
    TenantName, "tenant", 64, identifier, "may hold letters, digits, '-', '_', '.' and ':' only"
);
name!(
    /// A named line.
    QueueName, "queue", 128, identifier, "may hold letters, digits, '-', '_', '.' and ':' only"
);
name!(
    /// A model name, as the job asks for it or as an upstream knows it.
    ModelName, "model", 256, no_control, "must not hold control characters"
);
name!(
    /// An upstream's name in the configuration.
    UpstreamName, "upstream", 64, identifier, "may hold letters, digits, '-', '_', '.' and ':' only"
);
name!(
    /// The API path that a job calls, such as `/v1/chat/completions`.
    ApiPath, "path", 256, api_path, "must start with '/' and hold letters, digits, '/', '-', '_', '.' and ':' only"
);
name!(
    /// A key that makes a repeated submit answer with the first job.
    IdempotencyKey, "idempotency_key", 255, no_control, "must not hold control characters"
);
name!(
    /// What an API key is called.
    KeyName, "name", 64, no_control, "must not hold control characters"
);

impl TenantName {
    /// The tenant that is there before any other is made.
    pub fn default_tenant() -> Self {
        Self("default".to_owned())
    }
}

impl QueueName {
    /// What the queues of single runs begin with. They are worked only by workers that name them, and nobody else
    /// may submit to them.
    pub const RUN_PREFIX: &'static str = "run:";

    /// Whether it belongs to a single run.
    pub fn is_of_a_run(&self) -> bool {
        self.0.starts_with(Self::RUN_PREFIX)
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl Default for ApiPath {
    fn default() -> Self {
        Self("/v1/chat/completions".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_wrong_with_them() {
        let error = |r: Result<QueueName, InvalidName>| r.unwrap_err().to_string();
        assert_eq!(error(QueueName::new("")), "queue must not be empty");
        assert_eq!(
            error(QueueName::new("a b")),
            "queue may hold letters, digits, '-', '_', '.' and ':' only"
        );
        assert_eq!(error(QueueName::new("x".repeat(129))), "queue has 129 bytes; at most 128 are allowed");
    }

    #[test]
    fn a_path_stays_below_the_base_url() {
        assert!(ApiPath::new("/v1/chat/completions").is_ok());
        for bad in ["v1", "/v1/../admin", "//evil.example", "/v1?x=1", "/v1 x", "/v1#"] {
            assert!(ApiPath::new(bad).is_err(), "{bad}");
        }
    }
}
