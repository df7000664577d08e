//! Tries mutants of the SQL functions; `tests/mutants` builds what it needs and calls it.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use anyhow::Result;
use clap::Parser;
use sluice_cluster::Durability;
use sluice_testkit::TestCluster;
use sluice_tests::mutants::{Trial, Verdict};

/// Takes the guards out of the SQL functions, one at a time, and says which of them no test misses.
#[derive(Parser)]
struct Arguments {
    /// Functions to try; all without one.
    functions: Vec<String>,
    /// A test program, with its arguments separated by blanks; repeatable.
    #[arg(long = "program", required = true)]
    programs: Vec<String>,
    /// Appends a line of JSON for each mutant.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only names the mutants.
    #[arg(long)]
    list: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // A server of its own: what is planted there, other tests must not meet.
    let cluster = TestCluster::start_with(Durability::CrashOnly, &[("max_connections", "300")]).await;
    let trial = Trial::new(cluster.url(), arguments.programs.clone()).await?;
    let (mut caught, mut survived) = (0, 0);
    for (function, definition) in trial.functions().await? {
        if !arguments.functions.is_empty() && !arguments.functions.contains(&function) {
            continue;
        }
        for edit in Trial::edits(&definition) {
            let place = format!("{function}:{}", edit.line);
            if arguments.list {
                println!("{place}: {}", edit.what);
                continue;
            }
            let verdict = trial.verdict(&definition, &edit).await?;
            match verdict {
                Verdict::Caught => caught += 1,
                Verdict::Survived => survived += 1,
                Verdict::Invalid => {}
            }
            if verdict != Verdict::Invalid {
                println!("{verdict:?} {place}: {}", edit.what);
            }
            if let Some(path) = &arguments.json {
                let line = serde_json::json!({
                    "function": function, "line": edit.line, "what": edit.what,
                    "verdict": format!("{verdict:?}").to_lowercase(),
                });
                let mut file = OpenOptions::new().create(true).append(true).open(path)?;
                writeln!(file, "{line}")?;
            }
        }
    }
    println!("{caught} of {} mutants were noticed", caught + survived);
    Ok(())
}
