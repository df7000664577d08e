//! `sluice release`: held jobs go on.

use sluice_domain::{JobId, JobState, TenantName};
use sluice_scheduler::{DryRun, release_matching};
use sluice_store::ReleaseOutcome;

use crate::{
    commands::{
        Context,
        selection::{act_on_each, check_selection, show_report},
    },
    exit::{CliError, Exit},
    filter::FilterArgs,
    home::Home,
    jobs::no_such_job,
    pages,
};

/// Let held jobs go on, one or those that a filter means
///
/// A job is held when a call may have been made and it says on_unknown=hold, or when the processes that worked on it kept
/// crashing. Look at `sluice explain ID` first: releasing may pay a second time.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice release 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a
  sluice release --queue nightly --since 1d --dry-run
  sluice release --all")]
pub struct ReleaseArgs {
    /// The jobs
    #[arg(value_name = "ID")]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All held jobs
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    limit: Option<u64>,
    /// Only count them
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
}

/// Releases them.
pub async fn run(args: ReleaseArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    if args.filter.state.is_some_and(|state| state != JobState::Held) {
        return Err(CliError::usage("only held jobs can be released; leave --state out"));
    }
    check_selection(&args.ids, args.filter.is_empty(), args.all, "release")?;
    context
        .with_home("sluice-release", async |home| {
            if args.ids.is_empty() {
                by_filter(&args, home, context).await
            } else {
                by_id(&args, home, context).await
            }
        })
        .await
}

async fn by_id(args: &ReleaseArgs, home: &Home, context: &Context<'_>) -> Result<Exit, CliError> {
    let store = home.store("releasing", "POST /v1/jobs/{id}/release")?;
    let tenant = TenantName::default_tenant();
    let exit = act_on_each(&args.ids, home, context, "released", async |id| {
        match store.job_release(&tenant, id).await? {
            ReleaseOutcome::Released => Ok(()),
            ReleaseOutcome::NotHeld => Err(CliError::usage(format!(
                "job {id} is not held; `sluice explain {id}` says where it stands"
            ))),
            ReleaseOutcome::Unknown => Err(no_such_job(id)),
        }
    })
    .await?;
    store.wake_sleepers().await?;
    Ok(exit)
}

async fn by_filter(args: &ReleaseArgs, home: &Home, context: &Context<'_>) -> Result<Exit, CliError> {
    let store = home.store("releasing", "POST /v1/releases")?;
    let filter = args.filter.resolve(home).await?;
    let dry_run = if args.dry_run { DryRun::Yes } else { DryRun::No };
    let progress = pages::waiting("The jobs are being released,");
    let report = release_matching(store, &TenantName::default_tenant(), &filter, args.limit, dry_run).await;
    progress.finish_and_clear();
    show_report(&report?, context, "released")?;
    Ok(Exit::Done)
}
