//! `sluice replay`: ended jobs start again.

use std::num::NonZeroU32;

use sluice_domain::JobId;
use sluice_scheduler::DryRun;

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

/// Start ended jobs again, one or those that a filter means
///
/// Each becomes a new generation of itself with all its tries; results of earlier ones are kept. With a filter, failed jobs
/// are meant unless --state says otherwise: replaying what succeeded pays for it again.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice replay 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a
  sluice replay --error-class rate_limited --since 1h --dry-run
  sluice replay --state failed --queue nightly --limit 1000 --rate-per-minute 100")]
pub struct ReplayArgs {
    /// The jobs
    #[arg(value_name = "ID")]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All failed jobs
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    limit: Option<u64>,
    /// Spread their starts: so many a minute
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    rate_per_minute: Option<NonZeroU32>,
    /// Only count them
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
}

/// Replays them.
pub async fn run(args: ReplayArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    check_selection(&args.ids, args.filter.is_empty(), args.all, "replay")?;
    if args.filter.state.is_some_and(|state| !state.is_terminal()) {
        return Err(CliError::usage(
            "only ended jobs can be replayed; use --state failed, cancelled or succeeded",
        ));
    }
    context
        .with_home("sluice-replay", async |home| {
            if args.ids.is_empty() {
                by_filter(&args, home, context).await
            } else {
                act_on_each(&args.ids, home, context, "queued again", async |id| home.replay(id).await).await
            }
        })
        .await
}

async fn by_filter(args: &ReplayArgs, home: &Home, context: &Context<'_>) -> Result<Exit, CliError> {
    let filter = args.filter.resolve(home).await?;
    let dry_run = if args.dry_run { DryRun::Yes } else { DryRun::No };
    let progress = pages::waiting("The jobs are being replayed,");
    let report = home.replay_matching(&filter, args.limit, args.rate_per_minute, dry_run).await;
    progress.finish_and_clear();
    show_report(&report?, context, "replayed")?;
    Ok(Exit::Done)
}
