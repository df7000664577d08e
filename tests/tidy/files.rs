//! How long a file may be, and how it is written.

use crate::repository::{TextFile, assert_none, text_files};

/// No file is longer.
const MAX_LINES: usize = 1000;
/// A reason to split.
const MAX_RUST_LINES: usize = 500;

/// Beginnings of paths whose files may be longer, and why.
const MAY_BE_LONG: &[(&str, &str)] = &[
    ("Cargo.lock", "written by cargo"),
    ("bench/peers/Cargo.lock", "written by cargo"),
    ("fuzz/Cargo.lock", "written by cargo"),
    ("proto/", "code in it is generated from the .proto files"),
    ("deploy/dashboards/", "dashboards are written by a tool"),
];

/// Beginnings of paths that hold what others wrote byte for byte, or what needs its tabs.
const WRITTEN_ELSEWHERE: &[&str] = &["Cargo.lock", "proto/", "deploy/dashboards/", ".sqlx/", "fuzz/corpus/"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

fn starts_with_any(path: &str, beginnings: impl IntoIterator<Item = &'static str>) -> bool {
    beginnings.into_iter().any(|beginning| path.starts_with(beginning))
}

#[test]
fn files_are_short_enough_to_be_read() {
    let mut problems = Vec::new();
    for file in text_files() {
        if starts_with_any(&file.path, MAY_BE_LONG.iter().map(|(beginning, _)| *beginning)) {
            continue;
        }
        let lines = file.text.lines().count();
        let max = if file.is_rust() { MAX_RUST_LINES } else { MAX_LINES };
        if lines > max {
            problems.push(format!("{} has {lines} lines; at most {max} are allowed", file.path));
        }
    }
    assert_none("files that are too long", &problems);
}

#[test]
fn lines_have_no_tabs_and_no_blanks_at_their_end() {
    let mut problems = Vec::new();
    for file in text_files() {
        if starts_with_any(&file.path, WRITTEN_ELSEWHERE.iter().copied()) || may_hold_tabs(&file) {
            continue;
        }
        for (number, line) in (1..).zip(file.text.split('\n')) {
            let what = if line.contains('\t') {
                "a tab"
            } else if line.ends_with([' ', '\r']) {
                "a blank or carriage return at its end"
            } else {
                continue;
            };
            problems.push(format!("{}:{number} has {what}", file.path));
        }
    }
    assert_none("untidy lines", &problems);
}

/// Data and patches are what they are, and make asks for tabs.
fn may_hold_tabs(file: &TextFile) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    name == "Makefile" || [".tsv", ".patch", ".snap", ".jsonl"].iter().any(|ending| name.ends_with(ending))
}

#[test]
fn names_say_what_is_inside() {
    let mut problems = Vec::new();
    for file in text_files().iter().filter(|file| file.is_rust()) {
        let parts = file.path.trim_end_matches(".rs").split('/');
        problems.extend(
            parts
                .filter(|part| EMPTY_NAMES.contains(part))
                .map(|part| format!("{}: `{part}` says nothing", file.path)),
        );
    }
    assert_none("empty names", &problems);
}
