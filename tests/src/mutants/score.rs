//! The score: how many mutants were noticed, which were not, and which of those that is all right for.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context, Result, ensure};

use super::notes::{MutantNote, Verdict};

/// Mutants that no test need notice, each with its reason: lines `function: what — reason`.
#[derive(Clone, Default, Debug)]
pub struct Accepted(BTreeMap<(String, String), String>);

impl Accepted {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut accepted = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let parts = line.split_once(": ").and_then(|(function, rest)| {
                let (what, reason) = rest.rsplit_once(" — ")?;
                Some(((function.to_owned(), what.to_owned()), reason.to_owned()))
            });
            let (mutant, reason) = parts.with_context(|| format!("no `function: what — reason`: {line}"))?;
            ensure!(!reason.trim().is_empty(), "no reason is given: {line}");
            accepted.insert(mutant, reason);
        }
        Ok(Self(accepted))
    }

    /// Whether a mutant may live.
    pub fn contains(&self, note: &MutantNote) -> bool {
        self.0.contains_key(&(note.function.clone(), note.what.clone()))
    }
}

/// Counts of a function, or of all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Count {
    /// Tests failed, or hung.
    pub caught: usize,
    /// Of those, the hung.
    pub hung: usize,
    /// Survived, with a reason.
    pub accepted: usize,
    /// Survived, without one.
    pub open: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.caught += other.caught;
        self.hung += other.hung;
        self.accepted += other.accepted;
        self.open += other.open;
    }

    fn valid(self) -> usize {
        self.caught + self.accepted + self.open
    }
}

/// What became of many mutants.
#[derive(Default, Debug)]
pub struct Score {
    functions: BTreeMap<String, Count>,
    open: Vec<String>,
}

impl Score {
    /// Counts notes; refused changes don't count.
    pub fn of<'a>(notes: impl IntoIterator<Item = &'a MutantNote>, accepted: &Accepted) -> Self {
        let mut score = Self::default();
        for note in notes {
            let mut count = Count::default();
            match note.verdict {
                Verdict::Invalid => continue,
                Verdict::Caught => count.caught = 1,
                Verdict::Hung => (count.caught, count.hung) = (1, 1),
                Verdict::Survived if accepted.contains(note) => count.accepted = 1,
                Verdict::Survived => {
                    count.open = 1;
                    score.open.push(format!("{}:{}: {}", note.function, note.line, note.what));
                }
            }
            score.functions.entry(note.function.clone()).or_default().add(count);
        }
        score
    }

    /// Of all functions.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        self.functions.values().for_each(|count| total.add(*count));
        total
    }
}

impl fmt::Display for Score {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.functions.iter().map(|(name, count)| (name.as_str(), *count));
        writeln!(out, "{:<36} {:>7} {:>7} {:>9} {:>5}", "function", "mutants", "caught", "accepted", "open")?;
        for (name, count) in rows.chain([("all", self.total())]) {
            let Count { caught, accepted, open, .. } = count;
            writeln!(out, "{name:<36} {:>7} {caught:>7} {accepted:>9} {open:>5}", count.valid())?;
        }
        if self.total().hung > 0 {
            writeln!(out, "of the caught, {} by tests that hung", self.total().hung)?;
        }
        self.open.iter().try_for_each(|open| writeln!(out, "open: {open}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(what: &str, verdict: Verdict) -> MutantNote {
        let by = None;
        MutantNote {
            function: "f".to_owned(),
            line: 3,
            what: what.to_owned(),
            nth: 0,
            verdict,
            by,
            took_ms: 1,
        }
    }

    #[test]
    fn a_survivor_with_a_reason_is_counted_apart() {
        let accepted = Accepted::parse("# why\n\nf: a → true — an index is quicker\n").expect("it is whole");
        let notes = [
            note("a → true", Verdict::Survived),
            note("b → true", Verdict::Survived),
            note("c → true", Verdict::Caught),
            note("d → true", Verdict::Hung),
            note("e → true", Verdict::Invalid),
        ];
        let score = Score::of(&notes, &accepted);
        assert_eq!(score.total(), Count { caught: 2, hung: 1, accepted: 1, open: 1 });
        assert_eq!(score.open, ["f:3: b → true"]);
    }

    #[test]
    fn a_survivor_needs_a_reason() {
        assert!(Accepted::parse("f: a → true").is_err());
        assert!(Accepted::parse("f: a → true —  ").is_err());
    }
}
