//! `sluice apply`: the configuration into the database.

use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_config::{Change, ChangeKind};

use crate::{
    args::OutputFormat,
    commands::Context,
    configuration_file::{self, Applied, ApplyMode, GivenConfiguration},
    exit::{CliError, Exit},
    stdout,
};

/// Apply the configuration: upstreams, routes, queues
///
/// The text goes into the database, so that all replicas agree and none has to be restarted. Keys are references such
/// as ${DEEPSEEK_API_KEY}, which workers resolve.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice apply -f sluice.yaml --dry-run     show what would change
  sluice apply -f sluice.yaml               change it
  envsubst < template.yaml | sluice apply -f -")]
pub struct ApplyArgs {
    /// The file; `-` is standard input. Default: --config, else ./sluice.yaml
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only show the difference
    #[arg(long)]
    dry_run: bool,
}

/// Shows the difference and, without `--dry-run`, applies it.
pub async fn run(args: ApplyArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let path = args.file.or_else(|| configuration_file::file_to_use(&context.global)).ok_or_else(|| {
        CliError::usage("there is no sluice.yaml here; name the configuration with -f FILE")
    })?;
    // Before the database is touched: what is wrong with the file is wrong everywhere.
    let given = GivenConfiguration::read(&path)?;
    let mode = if args.dry_run { ApplyMode::Compare } else { ApplyMode::Store };
    context
        .with_store("sluice-apply", async |store| {
            let applied = configuration_file::apply(store, &given, mode, "sluice apply").await?;
            match context.global.output {
                OutputFormat::Json => stdout::json(&applied_json(&applied, mode))?,
                OutputFormat::Table => stdout::line(&applied_text(&applied, mode))?,
            }
            Ok(Exit::Done)
        })
        .await
}

fn applied_text(applied: &Applied, mode: ApplyMode) -> String {
    let mut lines: Vec<String> = applied.changes.iter().map(ToString::to_string).collect();
    lines.push(match (applied.changes.is_empty(), mode) {
        (true, _) => format!("Nothing changes; version {} counts.", applied.version),
        (false, ApplyMode::Compare) => "Nothing was applied (--dry-run).".to_owned(),
        (false, ApplyMode::Store) => format!("Applied as version {}.", applied.version),
    });
    lines.join("\n")
}

fn applied_json(applied: &Applied, mode: ApplyMode) -> Value {
    json!({
        "object": "configuration", "version": applied.version, "dry_run": mode == ApplyMode::Compare,
        "changes": applied.changes.iter().map(change_json).collect::<Vec<_>>(),
    })
}

fn change_json(change: &Change) -> Value {
    let (kind, from, to) = match &change.kind {
        ChangeKind::Added(value) => ("added", None, Some(value)),
        ChangeKind::Removed(value) => ("removed", Some(value), None),
        ChangeKind::Changed { from, to } => ("changed", Some(from), Some(to)),
    };
    json!({ "path": change.path, "kind": kind, "from": from, "to": to })
}
