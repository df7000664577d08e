//! What commands print: lines for people, JSON for scripts. A reader that has gone (`| head`) is no error.

use std::io::{self, Write};

use serde_json::Value;

use crate::exit::CliError;

/// Prints a line, or several.
pub fn line(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Prints a JSON value on one line.
pub fn json(value: &Value) -> Result<(), CliError> {
    line(&value.to_string())
}

/// Prints bytes and a line break.
pub fn bytes(text: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::unreachable(format!("failed to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether there is more than a list holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// There is.
    Yes,
    /// It is all.
    No,
}

/// Prints a list in the form of the REST interface; each item is JSON already.
pub fn list(items: &[Vec<u8>], more: More) -> Result<(), CliError> {
    let mut text = b"{\"object\":\"list\",\"data\":[".to_vec();
    text.extend(items.join(&b','));
    text.extend(format!("],\"has_more\":{}}}", more == More::Yes).into_bytes());
    bytes(&text)
}

/// Prints a list of values.
pub fn list_of(items: impl IntoIterator<Item = Value>) -> Result<(), CliError> {
    let items: Vec<Vec<u8>> = items.into_iter().map(|item| item.to_string().into_bytes()).collect();
    list(&items, More::No)
}
