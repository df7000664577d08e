//! `sluice migrate`: the schema up to date.

use serde_json::json;

use crate::{
    args::OutputFormat,
    commands::Context,
    database::{Database, Schema},
    exit::{CliError, Exit},
    stdout,
};

/// Bring the database's schema up to date, safely while older programs run
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice migrate
  DATABASE_URL=postgres://sluice@db/sluice sluice migrate
  sluice migrate --database-url postgres://pooler/sluice --database-direct-url postgres://db/sluice")]
pub struct MigrateArgs {}

/// Applies what is missing. One migrator works at a time; a second one waits and then finds nothing to do.
pub async fn run(_args: MigrateArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let database = Database::open(&context.global, "sluice-migrate", 2, Schema::Ignore).await?;
    let report = database.store.migrate().await;
    let place = database.place.clone();
    database.close().await?;
    let report = report?;
    match context.global.output {
        OutputFormat::Json => stdout::json(&json!({
            "object": "migration", "applied": report.applied, "version": report.version,
        }))?,
        OutputFormat::Table if report.applied == 0 => {
            stdout::line(&format!("The schema is up to date at version {} ({place}).", report.version))?;
        }
        OutputFormat::Table => {
            let what = if report.applied == 1 { "migration" } else { "migrations" };
            let text = format!("Applied {} {what}: version {} ({place}).", report.applied, report.version);
            stdout::line(&text)?;
        }
    }
    Ok(Exit::Done)
}
