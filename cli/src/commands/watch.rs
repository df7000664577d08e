//! `sluice watch`: a job's changes as they happen, until it ends.

use std::time::Duration;

use sluice_domain::{JobId, JobState, JobView, TenantName};
use sluice_store::{Bodies, Store};

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    jobs, stdout, times,
};

/// How often it looks. Changes between two looks show in the number of attempts.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

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
    context.with_store("sluice-watch", async |store| watch(args.id, store, context.global.output).await).await
}

async fn watch(id: JobId, store: &Store, output: OutputFormat) -> Result<Exit, CliError> {
    let tenant = TenantName::default_tenant();
    let mut last: Option<JobView> = None;
    loop {
        let job = store.job(&tenant, id, Bodies::LeftOut).await?.ok_or_else(|| jobs::no_such_job(id))?;
        if last.as_ref() != Some(&job) {
            match output {
                OutputFormat::Json => stdout::bytes(&jobs::json(&job, &jobs::gates(store).await?))?,
                OutputFormat::Table => stdout::line(&change_line(&job))?,
            }
        }
        match job.state {
            JobState::Succeeded => return Ok(Exit::Done),
            JobState::Failed | JobState::Cancelled => return Ok(Exit::SomeJobsFailed),
            JobState::Queued | JobState::Running | JobState::Held => {}
        }
        last = Some(job);
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
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
