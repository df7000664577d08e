//! `sluice queues`: the lines, and how much stands in them.

use serde_json::{Value, json};
use sluice_domain::TenantName;
use sluice_store::QueueDepth;

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    stdout,
    table::Table,
    times,
};

/// Show the queues that hold waiting or running jobs or are paused
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice queues
  sluice queues --output json | jq '.data[] | {name, ready}'")]
pub struct QueuesArgs {}

/// Prints them.
pub async fn run(_args: QueuesArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_store("sluice-queues", async |store| {
            let queues = store.queue_depths(Some(&TenantName::default_tenant())).await?;
            match context.global.output {
                OutputFormat::Json => stdout::list_of(queues.iter().map(queue_json))?,
                OutputFormat::Table if queues.is_empty() => {
                    stdout::line("No queue holds waiting or running jobs, and none is paused.")?;
                }
                OutputFormat::Table => stdout::line(&queue_table(&queues).text())?,
            }
            Ok(Exit::Done)
        })
        .await
}

fn queue_table(queues: &[QueueDepth]) -> Table {
    let mut table = Table::new(&["QUEUE", "READY", "SCHEDULED", "RUNNING", "HELD", "OLDEST", "PAUSED SINCE"]);
    for queue in queues {
        table.row(vec![
            queue.name.to_string(),
            queue.ready.to_string(),
            queue.scheduled.to_string(),
            queue.running.to_string(),
            queue.held.to_string(),
            queue.oldest_age.map(times::span_shown).unwrap_or_default(),
            queue.paused_at.map(times::shown).unwrap_or_default(),
        ]);
    }
    table
}

/// As over REST.
fn queue_json(queue: &QueueDepth) -> Value {
    json!({
        "name": queue.name, "object": "queue", "depth": queue.ready + queue.scheduled, "ready": queue.ready,
        "scheduled": queue.scheduled, "running": queue.running, "held": queue.held,
        "oldest_age_s": queue.oldest_age.map(|age| age.as_secs_f64()), "paused": queue.paused_at.is_some(),
        "paused_at": queue.paused_at.map(times::rfc3339),
    })
}
