//! `sluice get`: one job, with its result.

use std::time::Duration;

use sluice_domain::JobId;
use sluice_store::Bodies;

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    jobs, stdout,
};

/// Show one job, with its result when there is one
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice get 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a
  sluice get 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a --wait 5m --output json | jq .result.body")]
pub struct GetArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
    /// Wait for its end, at most so long; then it is shown as it stands
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

/// Prints it.
pub async fn run(args: GetArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_home("sluice-get", async |home| {
            let job = match args.wait {
                Some(most) => home.ended_job(args.id, most).await?,
                None => home.job(args.id, Bodies::Included).await?,
            };
            match context.global.output {
                OutputFormat::Json => stdout::bytes(&jobs::json_with_body(&job))?,
                OutputFormat::Table => stdout::line(&jobs::details(&job))?,
            }
            Ok(Exit::Done)
        })
        .await
}
