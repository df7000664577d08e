//! The command line of the protocol.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};

/// What to do, as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `setup`
    Setup,
    /// `fill --jobs N`
    Fill {
        /// How many jobs wait afterwards.
        jobs: u64,
    },
    /// `enqueue-bulk --jobs N`
    EnqueueBulk {
        /// How many in all.
        jobs: u64,
    },
    /// `enqueue-single --clients C --jobs N`
    EnqueueSingle {
        /// How many submit at once, each over a connection of its own.
        clients: u32,
        /// How many in all.
        jobs: u64,
    },
    /// `drain --jobs N --workers W`
    Drain {
        /// How many to finish of those that wait.
        jobs: u64,
        /// How many workers, all in this process.
        workers: u32,
    },
    /// `start-latency --jobs N`
    StartLatency {
        /// How many, one at a time.
        jobs: u64,
    },
    /// `calls --concurrency C --calls N --url U`
    Calls {
        /// How many at once.
        concurrency: usize,
        /// How many in all.
        calls: usize,
        /// Base of an OpenAI-compatible API, without a path.
        url: String,
    },
}

impl Operation {
    /// Reads the words after the program's name.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let words: Vec<String> = arguments.collect();
        let (name, rest) = words.split_first().context("an operation is missing, see README.md")?;
        let mut options = Options::from_words(rest)?;
        let operation = match name.as_str() {
            "setup" => Self::Setup,
            "fill" => Self::Fill { jobs: options.number("--jobs")? },
            "enqueue-bulk" => Self::EnqueueBulk { jobs: options.number("--jobs")? },
            "enqueue-single" => {
                Self::EnqueueSingle { clients: options.number("--clients")?, jobs: options.number("--jobs")? }
            }
            "drain" => Self::Drain { jobs: options.number("--jobs")?, workers: options.number("--workers")? },
            "start-latency" => Self::StartLatency { jobs: options.number("--jobs")? },
            "calls" => Self::Calls {
                concurrency: options.number("--concurrency")?,
                calls: options.number("--calls")?,
                url: options.take("--url")?,
            },
            other => bail!("there is no operation {other}"),
        };
        Ok(operation)
    }
}

/// `--name value` pairs.
struct Options(BTreeMap<String, String>);

impl Options {
    fn from_words(words: &[String]) -> Result<Self> {
        let (pairs, []) = words.as_chunks::<2>() else { bail!("an option lacks its value") };
        Ok(Self(pairs.iter().cloned().map(|[name, value]| (name, value)).collect()))
    }

    fn take(&mut self, name: &str) -> Result<String> {
        self.0.remove(name).with_context(|| format!("{name} is missing"))
    }

    fn number<N: std::str::FromStr<Err = std::num::ParseIntError>>(&mut self, name: &str) -> Result<N> {
        self.take(name)?.parse().with_context(|| format!("{name} is not a number"))
    }
}

/// The peer has no API for what was asked.
#[derive(Debug)]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Unsupported {}
