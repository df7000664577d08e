//! `sluice`: every role and every operator command in one binary.
//!
//! `main` only wires: arguments ([`args`]), telemetry, a runtime, the command ([`commands`]), and the exit code
//! ([`exit`]). What a command needs of the database comes from [`database`].

mod args;
mod attempt;
mod commands;
mod configuration_file;
mod database;
mod exit;
mod file_limit;
mod filter;
mod home;
mod input;
mod jobs;
mod output_line;
mod pages;
mod private_server;
mod roles;
mod run;
mod stdout;
mod stop_signals;
mod submitter;
mod table;
mod times;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory, FromArgMatches};

use crate::{args::Args, commands::Context, exit::CliError};

/// How long the last spans and log lines may take to leave.
const TELEMETRY_GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _faults = fail::FailScenario::setup();
    if attempt::is_asked_for() {
        return attempt::run();
    }
    // Wrong usage ends here with clap's own text and code 2, `--help` and `--version` with 0.
    let matches = Args::command().get_matches();
    let mut args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = args.global.settle(&matches).and_then(|()| run(args));
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error}");
            error.exit().into()
        }
    }
}

fn run(args: Args) -> Result<exit::Exit, CliError> {
    let telemetry = sluice_telemetry::init(&args.command.telemetry())
        .map_err(|error| CliError::usage(exit::causes(&error)))?;
    file_limit::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sluice")
        .build()
        .map_err(|error| CliError::unreachable(format!("failed to start the async runtime: {error}")))?;
    let context = Context { global: args.global, telemetry: &telemetry };
    let result = runtime.block_on(commands::dispatch(args.command, &context));
    // Tasks that still block (a resolver, a file) must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(500));
    telemetry.shutdown(TELEMETRY_GRACE);
    result
}
