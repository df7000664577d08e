//! `sluice watch`: a job's changes as they happen, until it ends.

use sluice_domain::{JobId, JobState, JobView};

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    home::Home,
    jobs, stdout, times,
};

/// Print each change of a job until it ends
///
/// Ends with code 0 if it succeeded, with 1 if it failed or was cancelled. A held job is watched on: somebody may release it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice watch 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a
  sluice watch 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a --output json | jq .state")]
pub struct WatchArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
}

/// Watches.
pub async fn run(args: WatchArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context.with_home("sluice-watch", async |home| watch(args.id, home, context.global.output).await).await
}

async fn watch(id: JobId, home: &Home, output: OutputFormat) -> Result<Exit, CliError> {
    let mut changes = home.watch(id);
    let mut exit = Exit::Done;
    while let Some(shown) = changes.next().await? {
        match output {
            OutputFormat::Json => stdout::bytes(&jobs::json(&shown))?,
            OutputFormat::Table => stdout::line(&change_line(&shown.job))?,
        }
        let is_good = !matches!(shown.job.state, JobState::Failed | JobState::Cancelled);
        exit = if is_good { Exit::Done } else { Exit::SomeJobsFailed };
    }
    Ok(exit)
}

fn change_line(job: &JobView) -> String {
    let since = job.finished_at.or(job.started_at).unwrap_or(job.created_at);
    let mut parts = vec![format!("{}  {:<9}  tries {}", times::shown(since), job.state, job.tries)];
    let run_at = job.run_at.filter(|run_at| *run_at > job.created_at);
    parts.extend(run_at.map(|run_at| format!("not before {}", times::shown(run_at))));
    parts.extend(job.hold_reason.map(|reason| reason.to_string()));
    parts.extend(job.error.as_ref().map(|error| format!("{}: {}", error.class, error.message)));
    crate::table::one_line(&parts.join(", "))
}
