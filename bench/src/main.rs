//! `bench/run`: runs the named benchmarks one after the other. A new one is a module and a line in [`BENCHMARKS`].

use std::{pin::Pin, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser as _;
use sluice_bench::{
    arguments::Arguments,
    b1, c1, d1, e1, l1, l2, l3a, l3b, l4, m1, progress, q1, q2, q3,
    rig::{Bench, Report},
    s1, s2, t1, w1,
};

/// A benchmark: its id, what it measures, and how it is run.
struct Benchmark {
    id: &'static str,
    measures: &'static str,
    run: for<'a> fn(&'a Bench) -> Measuring<'a>,
}

type Measuring<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

const BENCHMARKS: &[Benchmark] = &[
    Benchmark { id: "S1", measures: "submit in bulk", run: |bench| Box::pin(s1::run(bench)) },
    Benchmark { id: "S2", measures: "submit one at a time over REST", run: |bench| Box::pin(s2::run(bench)) },
    Benchmark { id: "L1", measures: "lease and settle", run: |bench| Box::pin(l1::run(bench)) },
    Benchmark { id: "T1", measures: "from a submit to its start", run: |bench| Box::pin(t1::run(bench)) },
    Benchmark { id: "E1", measures: "calls to an upstream", run: |bench| Box::pin(e1::run(bench)) },
    Benchmark { id: "D1", measures: "clients that wait", run: |bench| Box::pin(d1::run(bench)) },
    Benchmark { id: "M1", measures: "calls that are held", run: |bench| Box::pin(m1::run(bench)) },
    Benchmark { id: "L2", measures: "lease and settle, many waiting", run: |bench| Box::pin(l2::run(bench)) },
    Benchmark { id: "L3a", measures: "a snapshot held, steady load", run: |bench| Box::pin(l3a::run(bench)) },
    Benchmark { id: "L3b", measures: "a snapshot held, full speed", run: |bench| Box::pin(l3b::run(bench)) },
    Benchmark { id: "L4", measures: "lease and settle under limits", run: |bench| Box::pin(l4::run(bench)) },
    Benchmark { id: "W1", measures: "WAL, dead rows, idle queries", run: |bench| Box::pin(w1::run(bench)) },
    Benchmark { id: "B1", measures: "the size of bodies and answers", run: |bench| Box::pin(b1::run(bench)) },
    Benchmark { id: "Q1", measures: "use of an allowance", run: |bench| Box::pin(q1::run(bench)) },
    Benchmark { id: "Q2", measures: "use of a limit untold", run: |bench| Box::pin(q2::run(bench)) },
    Benchmark { id: "Q3", measures: "an outage of a region", run: |bench| Box::pin(q3::run(bench)) },
    Benchmark { id: "C1", measures: "everybody at once", run: |bench| Box::pin(c1::run(bench)) },
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let chosen = chosen(&arguments.ids)?;
    let bench = Bench {
        runs: arguments.runs(),
        size: arguments.size(),
        peers: arguments.peer_selection(),
        report: Report { json: arguments.json.clone(), commit: commit() },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for benchmark in chosen {
        progress!("{}: {}", benchmark.id, benchmark.measures);
        let measured = runtime.block_on((benchmark.run)(&bench));
        measured.with_context(|| format!("measure {}", benchmark.id))?;
    }
    Ok(())
}

fn chosen(ids: &[String]) -> Result<Vec<&'static Benchmark>> {
    if ids.is_empty() {
        return Ok(BENCHMARKS.iter().collect());
    }
    let known = || BENCHMARKS.iter().map(|benchmark| benchmark.id).collect::<Vec<_>>().join(", ");
    let mut chosen = Vec::new();
    for id in ids {
        // `L3` is `L3a` and `L3b`.
        let is_meant = |one: &&Benchmark| {
            let own = one.id.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
            one.id.eq_ignore_ascii_case(id) || own.eq_ignore_ascii_case(id)
        };
        let before = chosen.len();
        chosen.extend(BENCHMARKS.iter().filter(is_meant));
        anyhow::ensure!(chosen.len() > before, "there is no benchmark {id}; there are {}", known());
    }
    Ok(chosen)
}

/// The commit that is measured; empty outside a repository.
fn commit() -> String {
    let asked = std::process::Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output();
    match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => String::new(),
    }
}
