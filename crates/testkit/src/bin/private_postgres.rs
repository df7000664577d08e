//! Runs a command with `DATABASE_URL` set to a throw-away database, and removes the database afterwards:
//!
//! ```text
//! private-postgres [--empty] exec COMMAND [ARGUMENT…]
//! ```
//!
//! The database has the product's schema unless `--empty` is given. The exit code is the command's.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use sluice_testkit::TestDatabase;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (database, command) = match words.as_slice() {
        ["--empty", "exec", command @ ..] => (TestDatabase::empty().await, command),
        ["exec", command @ ..] => (TestDatabase::new().await, command),
        _ => bail!("usage: private-postgres [--empty] exec COMMAND [ARGUMENT…]"),
    };
    let (program, arguments) = command.split_first().context("a command is missing after `exec`")?;
    let status = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .status()
        .with_context(|| format!("run {program}"))?;
    database.remove().await?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
