//! What must not stand in the repository.

use crate::repository::{TextFile, assert_none, text_files};

/// Written in two parts, so that this file does not hold them.
const UNFINISHED: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];
const SQL_CALLS: &[&str] = &[concat!("sqlx", "::query"), concat!("sqlx", "::raw_sql")];

/// Where statements live: the product's in `store`; the tests look into the database to judge what it did.
const MAY_HOLD_SQL: &[&str] = &[
    "crates/store/",
    "crates/testkit/",
    "tests/",
    "scheduler/tests/",
    "worker/tests/",
    "cli/tests/",
    "bench/",
];

/// The lines of a Rust file that are code, with their numbers.
fn code_lines(file: &TextFile) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(file.text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn nothing_is_unfinished_and_no_test_is_switched_off() {
    let mut problems = Vec::new();
    for file in text_files().iter().filter(|file| file.is_rust()) {
        for (number, line) in code_lines(file) {
            let found = UNFINISHED.iter().filter(|word| line.contains(**word));
            problems.extend(found.map(|word| format!("{}:{number} holds `{word}`", file.path)));
        }
    }
    assert_none("unfinished code", &problems);
}

#[test]
fn statements_live_in_the_store() {
    let mut problems = Vec::new();
    for file in text_files().iter().filter(|file| file.is_rust()) {
        if MAY_HOLD_SQL.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        for (number, line) in code_lines(file) {
            let found = SQL_CALLS.iter().filter(|word| line.contains(**word));
            problems.extend(found.map(|word| format!("{}:{number} holds `{word}`", file.path)));
        }
    }
    assert_none("SQL outside the store", &problems);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let mut problems = Vec::new();
    for file in text_files() {
        for (number, line) in (1..).zip(file.text.lines()) {
            let found = MACHINE_PATHS.iter().filter(|path| holds_absolute(line, path));
            problems.extend(found.map(|path| format!("{}:{number} holds `{path}`", file.path)));
        }
    }
    assert_none("paths of a machine", &problems);
}

/// Whether a path stands there from its root: `frame/…` before it makes it part of another one.
fn holds_absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before
            .is_some_and(|before| before.is_alphanumeric() || matches!(before, '.' | '-' | '_' | '~' | '}'))
    })
}
