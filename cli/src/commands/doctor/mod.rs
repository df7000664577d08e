//! `sluice doctor`: checks all that jobs depend on, and says what to do.

mod database;
mod leases;
mod pooler;
mod report;
mod snapshots;
mod spool;
mod upstreams;
mod work;

use serde_json::json;

use self::report::{Report, Verdict};
use crate::{
    args::OutputFormat,
    commands::Context,
    database::{Database, Schema, data_dir},
    exit::{CliError, Exit},
    stdout,
};

/// Check database, settings, clocks, schema, configuration, upstreams and workers, and say what to do
///
/// Each line is ok, warn or fail. Ends with code 3 if the database or an upstream can't be reached, with 1 if something
/// else fails, and with 0 otherwise.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice doctor
  sluice doctor --offline                 ask no upstream
  sluice doctor --output json | jq '.checks[] | select(.verdict != \"ok\")'")]
pub struct DoctorArgs {
    /// Ask no upstream; otherwise each is asked for its list of models, which costs nothing
    #[arg(long)]
    offline: bool,
}

/// Checks, reports, and fails where something fails.
pub async fn run(args: DoctorArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let mut report = Report::default();
    match Database::open(&context.global, "sluice-doctor", 4, Schema::Ignore).await {
        Ok(database) => {
            let checked = check(&args, &database, context, &mut report).await;
            spool::check(&database.data_dir, database.store.database_id().await.ok(), &mut report);
            database.close().await?;
            match checked {
                Ok(()) => {}
                Err(CliError::Unreachable(problem)) => report.add_unreachable("database", &problem),
                Err(error) => report.add(Verdict::Fail, "database", &error.to_string()),
            }
        }
        Err(CliError::Unreachable(problem)) => {
            report.add_unreachable("database", &problem);
            spool::check(&data_dir(&context.global)?, None, &mut report);
        }
        Err(error) => return Err(error),
    }
    match context.global.output {
        OutputFormat::Json => stdout::json(&json!({
            "object": "checkup", "verdict": report.worst().as_str(), "checks": report.json(),
        }))?,
        OutputFormat::Table => stdout::line(&report.text())?,
    }
    Ok(report.exit())
}

async fn check(
    args: &DoctorArgs,
    database: &Database,
    context: &Context<'_>,
    report: &mut Report,
) -> Result<(), CliError> {
    database::check(database, context, report).await?;
    if database::check_schema(database, report).await? {
        upstreams::check(args.offline, database, report).await?;
        work::check(database, report).await?;
        leases::check(database, report).await?;
    }
    Ok(())
}
