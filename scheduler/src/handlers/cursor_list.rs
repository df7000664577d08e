//! Lists with cursors, as OpenAI's API has them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{InvalidInput, server::QueryPairs};

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct CursorList<T> {
    /// Always `list`.
    object: &'static str,
    /// The page.
    data: Vec<T>,
    /// The id of its first entry.
    first_id: Option<String>,
    /// The id of its last entry: `after` of the next page.
    last_id: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

impl<T> CursorList<T> {
    /// Of one entry more than `limit`, if there are so many.
    pub(super) fn of(mut data: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Self {
        let has_more = data.len() > limit as usize;
        data.truncate(limit as usize);
        Self {
            object: "list",
            first_id: data.first().map(&id),
            last_id: data.last().map(&id),
            data,
            has_more,
        }
    }
}

/// The parameter `limit`, from 1 to `most`.
pub(super) fn limit(query: &mut QueryPairs, usual: u32, most: u32) -> Result<u32, InvalidInput> {
    let Some(text) = query.take("limit") else { return Ok(usual) };
    let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
    limit
        .ok_or_else(|| InvalidInput::value("limit", format!("limit must be a whole number from 1 to {most}")))
}

/// What nobody has taken of a query is refused.
pub(super) fn nothing_else(query: &QueryPairs, known: &str) -> Result<(), InvalidInput> {
    match query.0.first() {
        Some((name, _)) => {
            let message = format!("unknown parameter {name:?}; known are {known}");
            Err(InvalidInput::at(name.as_str(), "unknown_parameter", message))
        }
        None => Ok(()),
    }
}
