//! `sluice cancel`: one job, or many.

use sluice_domain::{JobId, JobState, TenantName};
use sluice_scheduler::{DryRun, cancel_matching};

use crate::{
    commands::{
        Context,
        selection::{act_on_each, check_selection, show_report},
    },
    exit::{CliError, Exit},
    filter::FilterArgs,
    home::Home,
    pages,
};

/// Cancel jobs that have not ended, one or those that a filter means
///
/// A running job ends at once; its worker lets go of the call as soon as it hears. An answer that was paid already is
/// kept.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice cancel 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a
  sluice cancel --queue nightly --dry-run
  sluice cancel --tag project=alpha --since 1h
  sluice cancel --all")]
pub struct CancelArgs {
    /// The jobs
    #[arg(value_name = "ID")]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All jobs that have not ended
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    limit: Option<u64>,
    /// Only count them
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
}

/// Cancels them.
pub async fn run(args: CancelArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    check_selection(&args.ids, args.filter.is_empty(), args.all, "cancel")?;
    if args.filter.state.is_some_and(JobState::is_terminal) {
        return Err(CliError::usage(
            "jobs that have ended can't be cancelled; use --state queued, running or held",
        ));
    }
    context
        .with_home("sluice-cancel", async |home| {
            if args.ids.is_empty() {
                by_filter(&args, home, context).await
            } else {
                act_on_each(&args.ids, home, context, "cancelled", async |id| home.cancel(id).await).await
            }
        })
        .await
}

async fn by_filter(args: &CancelArgs, home: &Home, context: &Context<'_>) -> Result<Exit, CliError> {
    let store = home.store("cancelling by filter", "POST /v1/cancellations")?;
    let filter = args.filter.resolve(home).await?;
    let dry_run = if args.dry_run { DryRun::Yes } else { DryRun::No };
    let progress = pages::waiting("The jobs are being cancelled,");
    let report = cancel_matching(store, &TenantName::default_tenant(), &filter, args.limit, dry_run).await;
    progress.finish_and_clear();
    show_report(&report?, context, "cancelled")?;
    Ok(Exit::Done)
}
