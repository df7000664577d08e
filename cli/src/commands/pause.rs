//! `sluice pause` and `sluice resume`: lines, and what stands at their end.

use serde_json::json;
use sluice_config::Configuration;
use sluice_domain::{QueueName, TenantName};
use sluice_store::{PausedKind, Store};

use crate::{
    args::OutputFormat,
    commands::Context,
    configuration_file,
    exit::{CliError, Exit},
    filter, stdout,
};

/// Stop taking jobs from a queue, or calling an upstream or an account; what runs goes on
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice pause nightly                  no more jobs of the queue `nightly` are started
  sluice pause --upstream deepseek-us   nothing more is sent to that upstream
  sluice pause --account main           nor to any upstream of that account")]
pub struct PauseArgs {
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Start what was paused again: by you, or by a worker that met a wrong key, an empty account or a forbidden model
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice resume nightly
  sluice resume --upstream deepseek-us
  sluice resume --account main          after topping up its balance")]
pub struct ResumeArgs {
    #[command(flatten)]
    subject: SubjectArgs,
}

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct SubjectArgs {
    /// A queue
    #[arg(value_name = "QUEUE", value_parser = filter::queue_name)]
    queue: Option<QueueName>,
    /// An upstream of the configuration
    #[arg(long, value_name = "UPSTREAM")]
    upstream: Option<String>,
    /// An account of the configuration
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
}

/// What is paused or resumed.
enum Subject {
    Queue(QueueName),
    Outside(PausedKind, String),
}

impl SubjectArgs {
    fn subject(self) -> Result<Subject, CliError> {
        match (self.queue, self.upstream, self.account) {
            (Some(queue), ..) => Ok(Subject::Queue(queue)),
            (_, Some(name), _) => Ok(Subject::Outside(PausedKind::Upstream, name)),
            (_, _, Some(name)) => Ok(Subject::Outside(PausedKind::Account, name)),
            (None, None, None) => Err(CliError::usage("name a queue, --upstream or --account")),
        }
    }
}

/// Pauses.
pub async fn pause(args: PauseArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let subject = args.subject.subject()?;
    context
        .with_store("sluice-pause", async |store| {
            match &subject {
                Subject::Queue(queue) => store.queue_pause(&TenantName::default_tenant(), queue).await?,
                Subject::Outside(kind, name) => {
                    must_be_configured(store, *kind, name).await?;
                    store.pause(*kind, name, "operator").await?;
                }
            }
            report(context, &subject, Now::Paused)
        })
        .await
}

/// Resumes.
pub async fn resume(args: ResumeArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let subject = args.subject.subject()?;
    context
        .with_store("sluice-resume", async |store| {
            let was_paused = match &subject {
                Subject::Queue(queue) => store.queue_resume(&TenantName::default_tenant(), queue).await?,
                Subject::Outside(kind, name) => store.resume(*kind, name).await?,
            };
            if was_paused {
                // Workers that sleep look again at once instead of at their next poll.
                store.wake_sleepers().await?;
                return report(context, &subject, Now::Resumed);
            }
            if let Subject::Outside(kind, name) = &subject {
                must_be_configured(store, *kind, name).await?;
            }
            report(context, &subject, Now::WasNotPaused)
        })
        .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    Paused,
    Resumed,
    WasNotPaused,
}

fn report(context: &Context<'_>, subject: &Subject, now: Now) -> Result<Exit, CliError> {
    let (kind, name) = match subject {
        Subject::Queue(name) => ("queue", name.as_str()),
        Subject::Outside(kind, name) => (kind.as_str(), name.as_str()),
    };
    match context.global.output {
        OutputFormat::Json => {
            stdout::json(&json!({ "object": kind, "name": name, "paused": now == Now::Paused }))?;
        }
        OutputFormat::Table => {
            let what = match now {
                Now::Paused => "is paused; what runs goes on",
                Now::Resumed => "is resumed",
                Now::WasNotPaused => "was not paused",
            };
            stdout::line(&format!("The {kind} {name} {what}."))?;
        }
    }
    Ok(Exit::Done)
}

/// Refuses a name that the configuration does not know: a typing error must not look like a pause.
async fn must_be_configured(store: &Store, kind: PausedKind, name: &str) -> Result<(), CliError> {
    let configuration = configuration_file::current(store).await?.map(|(_, configuration)| configuration);
    let known = names(kind, &configuration.unwrap_or_default());
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    let kind = kind.as_str();
    Err(CliError::usage(if known.is_empty() {
        format!("there is no {kind} {name:?}: no configuration was applied; apply one with `sluice apply -f`")
    } else {
        format!("there is no {kind} {name:?}; known are {}", known.join(", "))
    }))
}

fn names(kind: PausedKind, configuration: &Configuration) -> Vec<String> {
    let mut names: Vec<String> = configuration
        .upstreams
        .iter()
        .map(|upstream| match kind {
            // A model is resumed with its upstream.
            PausedKind::Upstream | PausedKind::Model => upstream.name.to_string(),
            PausedKind::Account => upstream.account.clone(),
        })
        .collect();
    names.dedup();
    names
}
