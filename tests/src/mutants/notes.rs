//! What is known: a file with a line of JSON for each test and each mutant, so that a run that was interrupted goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What tests said to a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A test failed, twice.
    Caught,
    /// Tests did not come to an end.
    Hung,
    /// No test noticed.
    Survived,
    /// The database refused the change: it is none.
    Invalid,
}

/// A test as it is without a mutant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestNote {
    /// Its program.
    pub program: String,
    /// Its name there.
    pub test: String,
    /// How long it took alone, with the start of its program.
    pub took_ms: u64,
    /// Whether it passes; one that doesn't is not asked.
    pub passes: bool,
    /// The functions that it calls.
    pub reaches: BTreeSet<String>,
}

/// What became of a mutant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MutantNote {
    /// The function.
    pub function: String,
    /// The line in the function's text as the database prints it.
    pub line: usize,
    /// What was changed.
    pub what: String,
    /// Which one, where the same is changed several times in the function, from 0.
    pub nth: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// The test that noticed.
    pub by: Option<String>,
    /// How long that took.
    pub took_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Note {
    Test(TestNote),
    Mutant(MutantNote),
}

/// All notes; the last word on each counts.
#[derive(Debug, Default)]
pub struct Notes {
    path: Option<PathBuf>,
    tests: BTreeMap<(String, String), TestNote>,
    mutants: BTreeMap<(String, String, usize), MutantNote>,
}

impl Notes {
    /// Reads the notes of earlier runs, if there are any; new ones are written behind them.
    pub fn open(path: Option<PathBuf>) -> Result<Self> {
        let mut notes = Self { path, ..Self::default() };
        let Some(path) = notes.path.clone().filter(|path| path.exists()) else { return Ok(notes) };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(note) => notes.keep(note),
                // The last line of a run that was killed may be half of one.
                Err(error) => eprintln!("a line is passed over: {error}"),
            }
        }
        Ok(notes)
    }

    /// What is known of a test.
    pub fn test(&self, program: &str, test: &str) -> Option<&TestNote> {
        self.tests.get(&(program.to_owned(), test.to_owned()))
    }

    /// What is known of a mutant.
    pub fn mutant(&self, function: &str, what: &str, nth: usize) -> Option<&MutantNote> {
        self.mutants.get(&(function.to_owned(), what.to_owned(), nth))
    }

    /// All mutants that were tried.
    pub fn mutants(&self) -> impl Iterator<Item = &MutantNote> {
        self.mutants.values()
    }

    /// Adds a test.
    pub fn add_test(&mut self, note: TestNote) -> Result<()> {
        self.add(Note::Test(note))
    }

    /// Adds a mutant.
    pub fn add_mutant(&mut self, note: MutantNote) -> Result<()> {
        self.add(Note::Mutant(note))
    }

    fn add(&mut self, note: Note) -> Result<()> {
        if let Some(path) = &self.path {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", serde_json::to_string(&note)?)?;
        }
        self.keep(note);
        Ok(())
    }

    fn keep(&mut self, note: Note) {
        match note {
            Note::Test(note) => {
                self.tests.insert((note.program.clone(), note.test.clone()), note);
            }
            Note::Mutant(note) => {
                self.mutants.insert((note.function.clone(), note.what.clone(), note.nth), note);
            }
        }
    }
}
