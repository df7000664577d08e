//! What is said at the end of a run.

use std::{fmt::Write, path::Path, time::Duration};

use indicatif::HumanCount;
use sluice_domain::QueueName;

use super::{outcome::Ending, tally::Tally};
use crate::database::Database;

/// All that the summary tells of.
pub struct Summary<'a> {
    pub tally: &'a Tally,
    pub ending: &'a Ending,
    pub took: Duration,
    pub skipped_lines: usize,
    pub output: &'a Path,
    pub queue: &'a QueueName,
    pub database: &'a Database,
}

impl Summary<'_> {
    /// The lines of it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = self.write_counts(&mut text);
        let _ = self.write_places(&mut text);
        text.trim_end().to_owned()
    }

    fn write_counts(&self, text: &mut String) -> std::fmt::Result {
        let tally = self.tally;
        if let Some(said) = self.ending.said() {
            writeln!(text, "{said}")?;
        }
        write!(text, "{} of {} done", HumanCount(tally.done()), HumanCount(tally.total))?;
        for (count, what) in [
            (tally.kept, "by an earlier run"),
            (tally.not_well(), "failed"),
            (tally.held, "held for a person"),
            (self.skipped_lines as u64, "lines skipped as invalid"),
        ] {
            if count > 0 {
                write!(text, ", {} {what}", HumanCount(count))?;
            }
        }
        let seconds = self.took.as_secs_f64();
        let rate = if seconds > 0.0 { tally.written() as f64 / seconds } else { 0.0 };
        writeln!(text, "\ntime     {seconds:.1} s, {rate:.0} calls/s")?;
        if let (Some(p50), Some(p99)) = (tally.latency_ms(50.0), tally.latency_ms(99.0)) {
            writeln!(text, "latency  p50 {p50} ms, p99 {p99} ms")?;
        }
        let (input, output) = (HumanCount(tally.input_tokens), HumanCount(tally.output_tokens));
        let cached = HumanCount(tally.cached_input_tokens);
        writeln!(text, "tokens   {input} in ({cached} cached), {output} out")?;
        write!(text, "cost     {}", tally.spent())?;
        if tally.kept > 0 {
            write!(text, ", {} of it by this run", tally.cost)?;
        }
        text.write_str("\n")
    }

    fn write_places(&self, text: &mut String) -> std::fmt::Result {
        let queue = self.queue;
        writeln!(text, "results  {}", self.output.display())?;
        writeln!(text, "database {}, queue {queue}", self.database.place)?;
        if self.tally.not_well() > 0 {
            writeln!(text, "failures `sluice list --state failed --queue {queue}` shows them;")?;
            writeln!(
                text,
                "         `sluice replay --state failed --queue {queue}` and the same run again repeat them"
            )?;
        }
        if self.tally.held > 0 {
            writeln!(text, "held     `sluice list --state held --queue {queue}` shows them;")?;
            writeln!(
                text,
                "         `sluice release --queue {queue}` and the same run again go on with them"
            )?;
        }
        Ok(())
    }
}
