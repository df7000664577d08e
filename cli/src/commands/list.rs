//! `sluice list`: jobs, newest first.

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    filter::FilterArgs,
    jobs,
    stdout::{self, More},
};

/// List jobs, newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice list
  sluice list --state failed --error-class rate_limited --since 1h
  sluice list --queue nightly --tag project=alpha --limit 1000 --output json")]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
}

/// Prints them. A table is printed when all rows are known; JSON is one list object.
pub async fn run(args: ListArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_home("sluice-list", async |home| {
            let filter = args.filter.resolve(home).await?;
            // One more than is shown tells whether there are more.
            let mut found = home.jobs(&filter, args.limit.saturating_add(1)).await?;
            let more = if found.len() as u64 > args.limit { More::Yes } else { More::No };
            found.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
            match context.global.output {
                OutputFormat::Json => {
                    let items: Vec<_> = found.iter().map(jobs::json).collect();
                    stdout::list(&items, more)?;
                }
                OutputFormat::Table if found.is_empty() => stdout::line("No job matches.")?,
                OutputFormat::Table => {
                    stdout::line(&jobs::table(&found).text())?;
                    if more == More::Yes {
                        eprintln!("There are more; raise --limit to see them.");
                    }
                }
            }
            Ok(Exit::Done)
        })
        .await
}
