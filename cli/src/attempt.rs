//! `sluice attempt`: the process that a worker gives a suspect to itself. It is no command for people, so it is in no
//! help, and it is told apart before anything else: it wants no telemetry, no options, and nothing of the environment.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use sluice_worker::SuspectCommand;

use crate::exit::Exit;

const WORD: &str = "attempt";

/// Whether this process was started as one.
pub fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == WORD)
}

/// Makes the call that a worker orders.
pub fn run() -> ExitCode {
    if io::stdin().is_terminal() {
        eprintln!("error: only workers start `sluice {WORD}`; see `sluice worker --help`");
        return Exit::WrongUsage.into();
    }
    sluice_worker::attempt_for_parent()
}

/// How a worker starts one. Where this program can't be found, suspects are worked like any job.
pub fn command() -> Option<SuspectCommand> {
    match SuspectCommand::this_program([WORD]) {
        Ok(command) => Some(command),
        Err(error) => {
            tracing::warn!(%error, "jobs that crashed their workers can't get a process to themselves");
            None
        }
    }
}
