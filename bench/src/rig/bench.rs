//! What the caller asked for, and where figures go.

use anyhow::Result;

use super::{PeerSelection, Report, Sheet};

/// How large a benchmark is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// The size that the figures of `docs/performance.md` have.
    Full,
    /// A small version that ends within two minutes.
    Quick,
}

/// One call of the program.
#[derive(Debug)]
pub struct Bench {
    /// How often each figure is measured.
    pub runs: usize,
    /// How large.
    pub size: Size,
    /// Who else is measured.
    pub peers: PeerSelection,
    /// Where figures go.
    pub report: Report,
}

impl Bench {
    /// The one or the other, by size.
    pub fn choose<T>(&self, full: T, quick: T) -> T {
        match self.size {
            Size::Full => full,
            Size::Quick => quick,
        }
    }

    /// Prints the figures as a table, and appends them to the JSON file where there is one.
    pub fn publish(&self, sheet: &Sheet) -> Result<()> {
        self.report.publish(sheet)
    }
}

/// Tells a person what goes on; the table alone goes to stdout.
#[macro_export]
macro_rules! progress {
    ($($word:tt)*) => { eprintln!("bench: {}", format_args!($($word)*)) };
}
