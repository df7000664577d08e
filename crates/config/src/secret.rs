//! References to secrets, and the secrets that workers make of them.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// The largest file that is read as a secret.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Where a secret is found. It holds no secret, and can be shown and stored.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SecretRef {
    /// An environment variable of the worker: `${NAME}`.
    Environment(String),
    /// A file on the worker's host: `file:/run/secrets/key`, or `{file: /run/secrets/key}`.
    File(PathBuf),
}

/// Why a secret could not be had. It names the reference, never the secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The variable is not set, or empty.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file could not be read.
    #[error("read the secret in {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is empty, or holds what can stand in no header or key.
    #[error("the secret at {0} is empty or holds control characters")]
    Unusable(SecretRef),
}

impl SecretRef {
    /// What is said to a key that stands where a reference should.
    pub(crate) const LITERAL_REFUSED: &str = "must be a reference such as ${NAME} or file:/path, not the secret \
        itself: the configuration is stored in the database, and secrets must not be";

    /// Parses `${NAME}` or `file:/path`. The error never repeats the text, which may be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Self::file(path);
        }
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let name = name.ok_or_else(|| Self::LITERAL_REFUSED.to_owned())?;
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || name.len() > 255 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("the name within ${…} may hold letters, digits and '_' only".to_owned());
        }
        Ok(Self::Environment(name.to_owned()))
    }

    /// A reference to a file, by its absolute path: workers run in folders of their own.
    pub(crate) fn file(path: &str) -> Result<Self, String> {
        if path.starts_with('/') && !path.contains('\0') {
            Ok(Self::File(PathBuf::from(path)))
        } else {
            Err("the path of a secret's file must be absolute".to_owned())
        }
    }

    /// Gets the secret: from `variable`, or from the file. White space around it is cut off.
    pub fn resolve(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        self.resolve_without(variable, char::is_control)
    }

    /// [`Self::resolve`] for a key in PEM, which has several lines.
    pub(crate) fn resolve_lines(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        self.resolve_without(variable, |c| c.is_control() && !matches!(c, '\n' | '\r'))
    }

    /// Gets a secret that is a whole document, such as a set of keys: it may have several lines.
    pub fn resolve_document(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        self.resolve_without(variable, |_| false)
    }

    fn resolve_without(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        is_refused: impl Fn(char) -> bool,
    ) -> Result<Secret, SecretError> {
        let text = match self {
            Self::Environment(name) => variable(name)
                .filter(|value| !value.trim().is_empty())
                .ok_or_else(|| SecretError::Unset(name.clone()))?,
            Self::File(path) => {
                read_secret(path).map_err(|source| SecretError::Unreadable { path: path.clone(), source })?
            }
        };
        let text = text.trim();
        if text.is_empty() || text.chars().any(is_refused) {
            return Err(SecretError::Unusable(self.clone()));
        }
        Ok(Secret(text.to_owned()))
    }
}

fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "${{{name}}}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A secret in hand. It shows itself to nobody who does not ask for it by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself: for the request, never for a log, a span or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
