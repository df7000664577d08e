//! What the program may be told.

use std::path::PathBuf;

use crate::rig::{PeerSelection, Size};

/// Measure Sluice, its peers and its limits on a private Postgres
#[derive(clap::Parser, Debug)]
#[command(
    name = "bench/run",
    after_help = "Examples:
  bench/run --quick
  bench/run L1 S1 --runs 5 --json figures.jsonl
  bench/run L1 --peers graphile-worker,pgmq"
)]
pub struct Arguments {
    /// Which benchmarks; all without one
    #[arg(value_name = "ID", ignore_case = true)]
    pub ids: Vec<String>,
    /// How often each figure is measured; 3, with --quick 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub runs: Option<u16>,
    /// A small version that ends within two minutes a benchmark
    #[arg(long)]
    pub quick: bool,
    /// Append a JSON line for each figure to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Which peers are measured too; all that are built without this
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "no_peers")]
    pub peers: Vec<String>,
    /// Measure no peers
    #[arg(long)]
    pub no_peers: bool,
}

impl Arguments {
    /// How often each figure is measured.
    pub fn runs(&self) -> usize {
        usize::from(self.runs.unwrap_or(if self.quick { 1 } else { 3 }))
    }

    /// How large.
    pub const fn size(&self) -> Size {
        if self.quick { Size::Quick } else { Size::Full }
    }

    /// Who else is measured.
    pub fn peer_selection(&self) -> PeerSelection {
        match (self.no_peers, self.peers.is_empty()) {
            (true, _) => PeerSelection::Nobody,
            (false, true) => PeerSelection::All,
            (false, false) => PeerSelection::Named(self.peers.clone()),
        }
    }
}
