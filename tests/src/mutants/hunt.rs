//! The hunt: which tests reach what, and what they say to each mutant.
//!
//! A test that never calls a function can't notice what is changed there, so only those that do are asked: first those
//! that noticed other changes of the same function, then the rest, the quick ones first, until one fails. A test that
//! fails is asked again alone, and only what fails twice counts: on a busy machine a test may fail by itself, and the
//! score must not grow by that.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::try_join_all;

use super::{
    edit::{Edit, edits},
    notes::{MutantNote, Notes, TestNote, Verdict},
    program::{Outcome, Program},
    server::{Function, MutantServer},
};

/// Beside four times of what the slowest test takes without a mutant.
const PATIENCE: Duration = Duration::from_mins(1);
/// For a test of which nothing is known yet.
const FIRST_PATIENCE: Duration = Duration::from_mins(10);
/// So many of those that noticed before are asked together.
const HUNTERS: usize = 3;

/// A change of a function.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The function.
    pub function: Function,
    /// The change.
    pub edit: Edit,
    /// Which of several with the same words, from 0.
    pub nth: usize,
}

impl Mutant {
    /// All changes of a function, in the order of its text.
    pub fn all_of(function: &Function) -> Vec<Self> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mutant = |edit: Edit| {
            let count = seen.entry(edit.what.clone()).or_default();
            let nth = *count;
            *count += 1;
            Self { function: function.clone(), edit, nth }
        };
        edits(&function.definition).into_iter().map(mutant).collect()
    }
}

/// A run over mutants.
pub struct Hunt {
    programs: Vec<Program>,
    notes: RefCell<Notes>,
    /// How often a test noticed a change of a function.
    noticed: RefCell<BTreeMap<(String, String), usize>>,
    /// Tests that take longer than this without a mutant are not asked.
    within: Duration,
}

impl Hunt {
    /// A hunt with some programs, which goes on from the notes.
    pub fn new(programs: Vec<Program>, notes: Notes, within: Duration) -> Self {
        let mut noticed: BTreeMap<(String, String), usize> = BTreeMap::new();
        for note in notes.mutants() {
            if let Some(by) = &note.by {
                *noticed.entry((note.function.clone(), by.clone())).or_default() += 1;
            }
        }
        Self { programs, notes: RefCell::new(notes), noticed: RefCell::new(noticed), within }
    }

    /// The notes, when all is done.
    pub fn into_notes(self) -> Notes {
        self.notes.into_inner()
    }

    /// Runs each test that the notes don't know alone, and notes what it calls.
    pub async fn learn(&self, servers: &[MutantServer]) -> Result<()> {
        let mut unknown = VecDeque::new();
        for program in &self.programs {
            let tests = program.tests()?;
            let tests =
                tests.into_iter().filter(|test| self.notes.borrow().test(&program.name, test).is_none());
            unknown.extend(tests.map(|test| (program.clone(), test)));
        }
        let unknown = RefCell::new(unknown);
        try_join_all(servers.iter().map(async |server| {
            loop {
                let next = unknown.borrow_mut().pop_front();
                let Some((program, test)) = next else { return anyhow::Ok(()) };
                let note = learn_one(server, &program, test).await?;
                println!(
                    "{} {}: {} ms, {} functions, {} tests to go",
                    if note.passes { "learnt" } else { "FAILS" },
                    note.test,
                    note.took_ms,
                    note.reaches.len(),
                    unknown.borrow().len()
                );
                self.notes.borrow_mut().add_test(note)?;
            }
        }))
        .await?;
        Ok(())
    }

    /// Tries mutants, each on one of the servers.
    pub async fn try_all(&self, servers: &[MutantServer], mutants: Vec<Mutant>) -> Result<()> {
        let count = mutants.len();
        let mutants = RefCell::new(VecDeque::from(mutants));
        let begun = Instant::now();
        try_join_all(servers.iter().map(async |server| {
            loop {
                let next = mutants.borrow_mut().pop_front();
                let Some(mutant) = next else { return anyhow::Ok(()) };
                let note = self.try_one(server, &mutant).await?;
                let done = count - mutants.borrow().len();
                println!(
                    "[{done}/{count}, {} s] {:?} {}:{}: {} ({} ms{})",
                    begun.elapsed().as_secs(),
                    note.verdict,
                    note.function,
                    note.line,
                    note.what,
                    note.took_ms,
                    note.by.as_ref().map_or_else(String::new, |by| format!(", {by}")),
                );
                self.notes.borrow_mut().add_mutant(note)?;
            }
        }))
        .await?;
        Ok(())
    }

    async fn try_one(&self, server: &MutantServer, mutant: &Mutant) -> Result<MutantNote> {
        let begun = Instant::now();
        let Function { name, definition, .. } = &mutant.function;
        let (verdict, by) = if server.plant(&mutant.edit.applied(definition)).await.is_err() {
            (Verdict::Invalid, None)
        } else {
            let asked = self.ask(server, &mutant.function).await;
            server.clean().await?;
            server.plant(definition).await.context("take a mutant back")?;
            asked?
        };
        if let Some(by) = &by {
            *self.noticed.borrow_mut().entry((name.clone(), by.clone())).or_default() += 1;
        }
        Ok(MutantNote {
            function: name.clone(),
            line: mutant.edit.line,
            what: mutant.edit.what.clone(),
            nth: mutant.nth,
            verdict,
            by,
            took_ms: millis(begun.elapsed()),
        })
    }

    async fn ask(&self, server: &MutantServer, function: &Function) -> Result<(Verdict, Option<String>)> {
        for (program, tests) in self.rounds(function)? {
            let mut left = tests;
            while !left.is_empty() {
                let names: Vec<String> = left.iter().map(|note| note.test.clone()).collect();
                match program.run(&names, server.url(), &[], patience(&left)).await? {
                    Outcome::Passed => break,
                    Outcome::Hung => return Ok((Verdict::Hung, None)),
                    Outcome::Failed { test, passed } => {
                        let again = [test.clone()];
                        let is_known = left.iter().any(|note| note.test == test);
                        let again = program.run(&again, server.url(), &[], patience(&left)).await?;
                        if !is_known || again != Outcome::Passed {
                            return Ok((Verdict::Caught, Some(test)));
                        }
                        left.retain(|note| note.test != test && !passed.contains(&note.test));
                    }
                }
            }
        }
        Ok((Verdict::Survived, None))
    }

    /// The tests to be asked, in rounds: those that noticed before, then those of each program.
    fn rounds(&self, function: &Function) -> Result<Vec<(&Program, Vec<TestNote>)>> {
        let notes = self.notes.borrow();
        let noticed = self.noticed.borrow();
        let mut hunters: Vec<(usize, &Program, TestNote)> = Vec::new();
        let mut rounds = Vec::new();
        for program in &self.programs {
            let tests = program.tests()?;
            let known = tests.iter().filter_map(|test| notes.test(&program.name, test)).cloned();
            let all: Vec<TestNote> = known.filter(|note| self.may_be_asked(note)).collect();
            let reaching: Vec<TestNote> =
                all.iter().filter(|n| n.reaches.contains(&function.name)).cloned().collect();
            // What was inlined everywhere was counted nowhere: then anybody may notice.
            let round = if function.may_be_inlined { all } else { reaching };
            hunters.extend(round.iter().filter_map(|note| {
                let times = noticed.get(&(function.name.clone(), note.test.clone()))?;
                Some((*times, program, note.clone()))
            }));
            rounds.push((program, round));
        }
        hunters.sort_by_key(|(times, ..)| std::cmp::Reverse(*times));
        hunters.truncate(HUNTERS);
        let first = hunters.first().map(|(_, program, _)| *program);
        // One process has tests of one program.
        hunters.retain(|(_, program, _)| first.is_some_and(|first| first.name == program.name));
        let hunters: Vec<TestNote> = hunters.into_iter().map(|(_, _, note)| note).collect();
        for (_, round) in &mut rounds {
            round.retain(|note| !hunters.iter().any(|hunter| hunter.test == note.test));
        }
        rounds.splice(0..0, first.map(|program| (program, hunters)));
        Ok(rounds)
    }

    fn may_be_asked(&self, note: &TestNote) -> bool {
        note.passes && Duration::from_millis(note.took_ms) <= self.within
    }
}

async fn learn_one(server: &MutantServer, program: &Program, test: String) -> Result<TestNote> {
    let (begun, log_from) = (Instant::now(), server.log_length());
    let keep = [("SLUICE_KEEP_TEST_DATABASES", "1")];
    let outcome = program.run(std::slice::from_ref(&test), server.url(), &keep, FIRST_PATIENCE).await?;
    let took_ms = millis(begun.elapsed());
    let reaches = server.called(log_from).await?;
    server.clean().await?;
    Ok(TestNote { program: program.name.clone(), test, took_ms, passes: outcome == Outcome::Passed, reaches })
}

/// How long to wait for the end of the next test.
fn patience(tests: &[TestNote]) -> Duration {
    Duration::from_millis(tests.iter().map(|note| note.took_ms).max().unwrap_or(0)) * 4 + PATIENCE
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
