//! `sluice explain`: why a job is not running, and what happened to it so far.

use serde_json::json;
use sluice_domain::{AttemptRecord, JobId, TenantName};
use sluice_scheduler::{attempt_json, explain};

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    jobs, stdout,
    table::{Table, one_line},
    times,
};

/// Say why a job is not running: which gate, until when; and what its attempts met
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice explain 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a
  sluice explain 01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a --output json | jq '.blockers[].kind'")]
pub struct ExplainArgs {
    /// The job
    #[arg(value_name = "ID")]
    id: JobId,
}

/// Explains it.
pub async fn run(args: ExplainArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_store("sluice-explain", async |store| {
            let tenant = TenantName::default_tenant();
            let explanation = explain(store, None, &tenant, args.id).await?;
            let explanation = explanation.ok_or_else(|| jobs::no_such_job(args.id))?;
            let attempts = store.attempts(&tenant, args.id).await?.unwrap_or_default();
            match context.global.output {
                OutputFormat::Json => {
                    let mut json = json!(explanation);
                    json["attempts"] = attempts.iter().map(attempt_json).collect();
                    stdout::json(&json)?;
                }
                OutputFormat::Table => {
                    let mut text: Vec<_> = explanation.lines().iter().map(|line| one_line(line)).collect();
                    if !attempts.is_empty() {
                        text.push(String::new());
                        text.push(attempt_table(&attempts).text());
                    }
                    stdout::line(&text.join("\n"))?;
                }
            }
            Ok(Exit::Done)
        })
        .await
}

fn attempt_table(attempts: &[AttemptRecord]) -> Table {
    let mut table =
        Table::new(&["ATTEMPT", "GENERATION", "BEGUN", "OUTCOME", "STATUS", "UPSTREAM", "CALL", "ERROR"]);
    for attempt in attempts {
        let outcome = attempt.outcome.map_or_else(|| "under way".to_owned(), |outcome| outcome.to_string());
        let late = if attempt.is_late { " (late)" } else { "" };
        let error = attempt.error_class.map(|class| {
            attempt
                .error_message
                .as_ref()
                .map_or_else(|| class.to_string(), |message| format!("{class}: {message}"))
        });
        table.row(vec![
            attempt.lease_no.to_string(),
            attempt.generation.to_string(),
            times::shown(attempt.begun_at),
            format!("{outcome}{late}"),
            attempt.status_code.map(|status| status.to_string()).unwrap_or_default(),
            attempt.upstream.clone().unwrap_or_default(),
            attempt.call_duration_ms.map(|ms| format!("{ms}ms")).unwrap_or_default(),
            error.unwrap_or_default(),
        ]);
    }
    table
}
