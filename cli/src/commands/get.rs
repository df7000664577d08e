//! `sluice get`: one job, with its result.

use sluice_domain::{JobId, TenantName};
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
  sluice get 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a --output json | jq .result.body")]
pub struct GetArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
}

/// Prints it.
pub async fn run(args: GetArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_store("sluice-get", async |store| {
            let job = store.job(&TenantName::default_tenant(), args.id, Bodies::Included).await?;
            let job = job.ok_or_else(|| jobs::no_such_job(args.id))?;
            let gates = jobs::gates(store).await?;
            match context.global.output {
                OutputFormat::Json => stdout::bytes(&jobs::json_with_body(&job, &gates))?,
                OutputFormat::Table => stdout::line(&jobs::details(&job, &gates))?,
            }
            Ok(Exit::Done)
        })
        .await
}
