//! Runs rows of the fault matrix, and makes the table of what was found. `tests/faults` builds and starts it.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use futures::FutureExt;
use sluice_testkit::TestCluster;
use sluice_tests::{
    rows::{Case, ROWS, Report, Row, Scale, row},
    table,
};

/// Run rows of the fault matrix against real processes on a private Postgres
///
/// Appends a line of JSON for each row and seed. Exit codes: 0 all held, 1 a row fell short, 2 wrong usage, 4 a row had
/// to be skipped.
#[derive(Parser, Debug)]
#[command(name = "tests/faults")]
#[command(after_help = "Examples:
  tests/faults                          every row, one seed
  tests/faults 1 6 --seeds 10           two rows, seeds 1 to 10
  tests/faults 4 --seed 7               what repeats a failure
  tests/faults --list                   the rows, with what is done and what must hold
  tests/faults --table runs.jsonl       the table of docs/faults.md")]
struct Arguments {
    /// Rows by number; all without one
    #[arg(value_name = "ROW", value_parser = known_row)]
    rows: Vec<u16>,
    /// How many seeds each row is run with
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Append the reports to this file; without one they go to stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Shorter times and fewer jobs
    #[arg(long)]
    small: bool,
    /// Keep logs and records also of runs in which all held
    #[arg(long)]
    keep: bool,
    /// Print the rows and run none
    #[arg(long)]
    list: bool,
    /// Print the table of these files of reports and run none
    #[arg(long, value_name = "FILE", num_args = 1.., exclusive = true)]
    table: Vec<PathBuf>,
}

fn known_row(text: &str) -> Result<u16, String> {
    let number = text.parse().map_err(|_| "must be the number of a row".to_owned())?;
    let known = || ROWS.iter().map(|row| row.number.to_string()).collect::<Vec<_>>().join(", ");
    row(number).map(|row| row.number).ok_or_else(|| format!("there is no such row; there are {}", known()))
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.table.is_empty() {
        print!("{}", table::markdown(&table::read_reports(&arguments.table)?));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.list {
        for row in ROWS {
            println!(
                "{:>2}  {}\n    done: {}\n    must hold: {}",
                row.number, row.name, row.done, row.must_hold
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    run(&arguments).await
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let open = |path: &PathBuf| OpenOptions::new().create(true).append(true).open(path);
    let mut json = arguments.json.as_ref().map(open).transpose().context("open the file of reports")?;
    let (mut fell_short, mut was_skipped) = (false, false);
    let is_wanted = |row: &&Row| arguments.rows.is_empty() || arguments.rows.contains(&row.number);
    for row in ROWS.iter().filter(is_wanted) {
        for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds.max(1)) {
            let report = run_once(row, seed, arguments).await?;
            fell_short |= !report.ok && !report.is_skipped();
            was_skipped |= report.is_skipped();
            write_line(json.as_mut(), &report)?;
        }
    }
    Ok(match (fell_short, was_skipped) {
        (true, _) => ExitCode::from(1),
        (false, true) => ExitCode::from(4),
        (false, false) => ExitCode::SUCCESS,
    })
}

async fn run_once(row: &Row, seed: u64, arguments: &Arguments) -> Result<Report> {
    let folder = tempfile::Builder::new().prefix(&format!("sluice-fault-{}-", row.number)).tempdir()?.keep();
    let scale = if arguments.small { Scale::Small } else { Scale::Full };
    let case = Case { row: row.number, seed, scale, folder };
    eprintln!("row {} ({}), seed {seed} …", row.number, row.name);
    let begun = Instant::now();
    let report = if TestCluster::is_possible() {
        let ran = AssertUnwindSafe((row.run)(&case)).catch_unwind().await;
        match ran {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => Report::broken(&case, &format!("{error:#}")),
            Err(panic) => Report::broken(&case, panic_text(&*panic)),
        }
    } else {
        Report::skipped(&case, "no Postgres server programs on this machine")
    };
    tell(row, &report, &case.folder, begun.elapsed().as_secs(), arguments);
    if report.ok && !arguments.keep {
        std::fs::remove_dir_all(&case.folder).context("remove the logs of a run in which all held")?;
    }
    Ok(report)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

fn tell(row: &Row, report: &Report, folder: &Path, took_s: u64, arguments: &Arguments) {
    let detail = if report.detail.is_empty() { String::new() } else { format!(": {}", report.detail) };
    if report.is_skipped() {
        eprintln!("  row {}{detail}", row.number);
    } else if report.ok {
        eprintln!("  held, {} jobs, {} calls, {took_s} s{detail}", report.jobs, report.calls);
    } else {
        let small = if arguments.small { " --small" } else { "" };
        eprintln!("  FELL SHORT after {took_s} s{detail}");
        eprintln!("  must hold: {}", row.must_hold);
        eprintln!("  logs and records: {}", folder.display());
        eprintln!("  repeat it: tests/faults {} --seed {}{small}", row.number, report.seed);
    }
}

fn write_line(json: Option<&mut File>, report: &Report) -> Result<()> {
    let line = serde_json::to_string(report)?;
    if let Some(file) = json {
        return writeln!(file, "{line}").context("write a report");
    }
    println!("{line}");
    Ok(())
}
