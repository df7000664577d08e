//! What must hold for every parser of foreign bytes, whatever the bytes are.
//!
//! Each check takes any bytes and panics where a promise is broken: not only that nothing panics, but that cuts change
//! nothing, that what was written is read back, and that sizes, waits and costs stay within their bounds. `fuzz/` feeds
//! them from libFuzzer, and `tests/corpora.rs` from the inputs that are kept in `fuzz/corpus`.
//!
//! Parsers that are private to a program are compiled in from their source, so that they stay private, and so that a
//! build for libFuzzer holds no database and no HTTP client. Not here: how a parser's result is used.

mod answer;
mod configuration;
mod grpc;
mod headers;
mod lines;
mod spool;
mod sse;
mod submission;

// The name that files of `scheduler` have for each other.
#[path = "../../../scheduler/src/input/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the handlers of `scheduler` use the rest")]
mod input;

pub(crate) use input::{InputFault, InvalidInput, parse_submission, wall_clock};

/// A check, by the name of its target and of its folder in `fuzz/corpus`.
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Takes any bytes; panics where a promise is broken.
    pub check: fn(&[u8]),
}

/// All checks.
pub const TARGETS: &[Target] = &[
    Target { name: "answer", check: answer::check },
    Target { name: "configuration", check: configuration::check },
    Target { name: "grpc", check: grpc::check },
    Target { name: "headers", check: headers::check },
    Target { name: "lines", check: lines::check },
    Target { name: "spool", check: spool::check },
    Target { name: "sse", check: sse::check },
    Target { name: "submission", check: submission::check },
];

/// Runs the check `name` on `bytes`.
///
/// # Panics
///
/// Where a promise is broken, and where there is no such check.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the check is one of TARGETS");
    (target.check)(bytes);
}
