//! The first pass: every line is looked at before anything is sent.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    fmt::Write,
};

use sha2::{Digest, Sha256};

use super::{
    fill_in::FillIn,
    line,
    lines::{LineRead, LineReader, MAX_LINE_BYTES},
    source::{Source, unreadable},
};
use crate::exit::CliError;

/// So many problems are kept with their reasons; the others are counted.
pub const MAX_PROBLEMS_SHOWN: usize = 20;

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineProblem {
    /// Which line, from 1.
    pub line_no: u64,
    /// The reason; it reads after "line 7".
    pub reason: String,
}

/// What the first pass found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The SHA-256 of the input's bytes.
    pub input_sha256: [u8; 32],
    /// Lines that are good requests.
    pub requests: u64,
    /// Lines that are blank.
    pub blank_lines: u64,
    /// Lines that can't be used.
    pub bad_lines: BTreeSet<u64>,
    /// The first of them, with their reasons.
    pub problems: Vec<LineProblem>,
}

impl Checked {
    /// All that is wrong, one problem a line; `None` where nothing is.
    pub fn report(&self, name: &str) -> Option<String> {
        if self.bad_lines.is_empty() {
            return None;
        }
        let mut text = String::new();
        for problem in &self.problems {
            // Writing to memory does not fail.
            let _ = writeln!(text, "{name}, line {}: {}", problem.line_no, problem.reason);
        }
        let more = self.bad_lines.len() - self.problems.len();
        if more > 0 {
            let _ = writeln!(text, "… and {more} more lines");
        }
        Some(text)
    }

    fn add_problem(&mut self, line_no: u64, reason: String) {
        self.bad_lines.insert(line_no);
        if self.problems.len() < MAX_PROBLEMS_SHOWN {
            self.problems.push(LineProblem { line_no, reason });
        }
    }
}

/// Looks at every line of a source.
pub fn check(source: &Source, fill_in: &FillIn) -> Result<Checked, CliError> {
    let lines = source.lines().map_err(|error| unreadable(&source.name, &error))?;
    check_lines(lines, fill_in).map_err(|error| unreadable(&source.name, &error))
}

/// Looks at every line.
pub(super) fn check_lines<R: std::io::Read>(
    mut lines: LineReader<R>,
    fill_in: &FillIn,
) -> std::io::Result<Checked> {
    let mut checked = Checked::default();
    // Ids by their hash: a million of them shall not be held as text.
    let mut ids: HashMap<[u8; 16], u64> = HashMap::new();
    let mut line = Vec::new();
    let mut line_no = 0;
    loop {
        match lines.read(&mut line)? {
            LineRead::End => break,
            LineRead::TooLong(bytes) => {
                line_no += 1;
                let (size, most) = (bytes as f64 / (1024.0 * 1024.0), MAX_LINE_BYTES >> 20);
                checked.add_problem(
                    line_no,
                    format!("has {size:.1} MiB; a line may have {most} MiB, its body 8 MiB"),
                );
                continue;
            }
            LineRead::Line => line_no += 1,
        }
        match line::parse(&line, line_no, fill_in) {
            Ok(None) => checked.blank_lines += 1,
            Err(reason) => checked.add_problem(line_no, reason),
            Ok(Some(request)) => match ids.entry(id_hash(&request.custom_id())) {
                Entry::Vacant(free) => {
                    free.insert(line_no);
                    checked.requests += 1;
                }
                Entry::Occupied(taken) => {
                    let id = request.custom_id();
                    let whose = taken.get();
                    checked.add_problem(line_no, format!("has the id {id:?}, which is that of line {whose}"));
                }
            },
        }
    }
    checked.input_sha256 = lines.sha256();
    Ok(checked)
}

fn id_hash(id: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    std::array::from_fn(|at| digest[at])
}
