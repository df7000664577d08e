//! A request as it leaves the input: checked, with its body as it will be sent.

use sluice_domain::{ApiPath, ModelName, Priority};

/// The longest id of a line, in bytes: it is kept as a tag of its job.
pub const MAX_ID_BYTES: usize = sluice_domain::Tags::MAX_VALUE_BYTES;

/// One request of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Which line of the file it is, from 1; blank lines count.
    pub line_no: u64,
    /// The line's own id (`custom_id` or `id`), if it has one.
    pub own_id: Option<String>,
    /// The API path to call.
    pub path: ApiPath,
    /// The model it asks for; the body names it too.
    pub model: ModelName,
    /// How urgent.
    pub priority: Priority,
    /// The JSON to send.
    pub body: Vec<u8>,
}

impl Request {
    /// What its result is found by: the line's own id, or its number.
    pub fn custom_id(&self) -> String {
        self.own_id.clone().unwrap_or_else(|| self.line_no.to_string())
    }
}
