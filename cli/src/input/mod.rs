//! Requests from a file: JSON Lines in, checked requests out.
//!
//! A file is read twice. The first pass ([`check`]) looks at every line and keeps nothing but a hash of each id, so that
//! whatever is wrong is known before anything is sent; the second ([`RequestReader`]) yields the requests. Standard
//! input is spooled to a nameless file first.
//!
//! Not here: what becomes of the requests (`run`, `submit`).

mod check;
mod field;
mod fill_in;
mod line;
mod lines;
mod request;
mod scan;
mod short_form;
mod source;
mod template;

pub use check::{Checked, check};
pub use fill_in::{FillIn, FillInArgs};
pub use request::Request;
pub use source::{RequestReader, Source};

#[cfg(test)]
mod tests;
