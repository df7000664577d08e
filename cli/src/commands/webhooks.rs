//! `sluice webhooks`: which ends of jobs were told, and telling them once more.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::{Value, json};
use sluice_domain::{JobId, TenantName, WebhookId, WebhookState, WebhookUrl, WebhookView};
use sluice_store::WebhookPage;

use crate::{
    args::OutputFormat,
    commands::{Context, keys::tenant_name},
    exit::{CliError, Exit},
    stdout,
    table::Table,
    times,
};

/// Show whom the ends of jobs were told, and tell them once more
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice webhooks list --state failed
  sluice webhooks redeliver 0199a1b2-d000-7e5f-8a9b-0c1d2e3f4a5b
  sluice webhooks resume https://example.com/hooks/sluice")]
pub struct WebhooksArgs {
    #[command(subcommand)]
    action: Action,
    /// Of this tenant
    #[arg(long, global = true, value_name = "TENANT", value_parser = tenant_name, default_value = "default")]
    tenant: TenantName,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show webhooks, the newest first
    List {
        /// Only those: pending, delivered, failed, disabled
        #[arg(long)]
        state: Option<WebhookState>,
        /// Only of this job
        #[arg(long, value_name = "ID")]
        job: Option<JobId>,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Send one anew, whatever became of it
    Redeliver {
        /// Its id
        #[arg(value_name = "ID")]
        id: WebhookId,
    },
    /// Tell a target again that answered 410 or was given up, also what it missed
    Resume {
        /// The target
        #[arg(value_name = "URL", value_parser = url)]
        url: WebhookUrl,
        /// Only what it missed since then
        #[arg(long, value_name = "TIME", value_parser = times::time)]
        since: Option<DateTime<Utc>>,
    },
}

fn url(text: &str) -> Result<WebhookUrl, String> {
    WebhookUrl::new(text).map_err(|error| error.to_string())
}

/// Does it.
pub async fn run(args: WebhooksArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let tenant = args.tenant;
    context
        .with_store("sluice-webhooks", async |store| {
            match args.action {
                Action::List { state, job, limit } => {
                    let page = WebhookPage { state, job, limit, ..WebhookPage::default() };
                    show(&store.webhooks(&tenant, &page).await?, context)?;
                }
                Action::Redeliver { id } => {
                    let due = store.webhook_redeliver(&tenant, None, id).await?;
                    let due = due.ok_or_else(|| {
                        let message = format!("there is no webhook {id}; `sluice webhooks list` shows them");
                        CliError::usage(message)
                    })?;
                    show(&[due], context)?;
                }
                Action::Resume { url, since } => {
                    let since = since.unwrap_or(DateTime::UNIX_EPOCH);
                    let resumed = store.webhook_target_resume(&tenant, &url, since).await?;
                    match context.global.output {
                        OutputFormat::Json => stdout::json(&json!({
                            "object": "webhook_target", "url": url.as_str(), "resumed": resumed,
                        }))?,
                        OutputFormat::Table => stdout::line(&format!("{resumed} webhooks are due again."))?,
                    }
                }
            }
            Ok(Exit::Done)
        })
        .await
}

fn show(webhooks: &[WebhookView], context: &Context<'_>) -> Result<(), CliError> {
    match context.global.output {
        OutputFormat::Json => stdout::list_of(webhooks.iter().map(webhook_json)),
        OutputFormat::Table if webhooks.is_empty() => stdout::line("There are no webhooks."),
        OutputFormat::Table => stdout::line(&table_of(webhooks).text()),
    }
}

fn table_of(webhooks: &[WebhookView]) -> Table {
    let mut table = Table::new(&["ID", "JOB", "ENDED", "STATE", "TRIES", "ANSWER", "URL"]);
    for webhook in webhooks {
        let answer = webhook.status_code.map(|status| status.to_string());
        table.row(vec![
            webhook.id.to_string(),
            webhook.job_id.to_string(),
            webhook.job_state.as_str().to_owned(),
            webhook.state.as_str().to_owned(),
            webhook.tries.to_string(),
            answer.or_else(|| webhook.problem.clone()).unwrap_or_default(),
            webhook.url.as_str().to_owned(),
        ]);
    }
    table
}

/// As over REST.
fn webhook_json(webhook: &WebhookView) -> Value {
    json!({
        "id": webhook.id, "object": "webhook", "job_id": webhook.job_id, "generation": webhook.generation,
        "url": webhook.url.as_str(), "type": format!("job.{}", webhook.job_state.as_str()),
        "state": webhook.state.as_str(), "tries": webhook.tries, "created_at": times::rfc3339(webhook.created_at),
        "due_at": webhook.due_at.map(times::rfc3339), "last_try_at": webhook.last_try_at.map(times::rfc3339),
        "status_code": webhook.status_code, "problem": webhook.problem,
        "ended_at": webhook.ended_at.map(times::rfc3339),
    })
}
