//! `sluice upstreams`: where calls go, and what is paused.

use serde_json::{Value, json};
use sluice_config::{Configuration, Upstream};
use sluice_store::{OpenBreaker, Pause, PausedKind};

use crate::{
    args::OutputFormat,
    commands::Context,
    configuration_file,
    exit::{CliError, Exit},
    stdout,
    table::Table,
    times,
};

/// Show the upstreams of the configuration, the models that go there, and what is paused
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice upstreams
  sluice upstreams --output json | jq '.data[] | select(.paused)'")]
pub struct UpstreamsArgs {}

/// Prints them.
pub async fn run(_args: UpstreamsArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_store("sluice-upstreams", async |store| {
            let configuration =
                configuration_file::current(store).await?.map(|(_, configuration)| configuration);
            let configuration = configuration.unwrap_or_default();
            let pauses = store.pauses().await?;
            let breakers = store.breakers_open().await?;
            match context.global.output {
                OutputFormat::Json => {
                    let upstreams = configuration.upstreams.iter();
                    stdout::list_of(
                        upstreams.map(|upstream| upstream_json(upstream, &configuration, &pauses, &breakers)),
                    )?;
                }
                OutputFormat::Table if configuration.upstreams.is_empty() => {
                    stdout::line(
                        "There is no upstream; apply a configuration with `sluice apply -f sluice.yaml`.",
                    )?;
                }
                OutputFormat::Table => {
                    stdout::line(&upstream_table(&configuration, &pauses, &breakers).text())?;
                }
            }
            Ok(Exit::Done)
        })
        .await
}

fn upstream_table(configuration: &Configuration, pauses: &[Pause], breakers: &[OpenBreaker]) -> Table {
    let mut table = Table::new(&[
        "UPSTREAM", "PROVIDER", "BASE URL", "ACCOUNT", "PRIORITY", "MODELS", "BREAKER", "PAUSED",
    ]);
    for upstream in &configuration.upstreams {
        let models = models_of(upstream, configuration);
        let standstill = pause_of(upstream, pauses).map(|pause| {
            let kind = pause.kind.as_str();
            format!("{kind} since {} ({})", times::shown(pause.paused_at), pause.reason)
        });
        let of_models = paused_models(upstream, pauses).map(|(model, pause)| {
            format!("{model} since {} ({})", times::shown(pause.paused_at), pause.reason)
        });
        let standstill: Vec<_> = standstill.into_iter().chain(of_models).collect();
        table.row(vec![
            upstream.name.to_string(),
            upstream.provider.as_str().to_owned(),
            upstream.base_url.clone(),
            upstream.account.clone(),
            upstream.priority.to_string(),
            models.map_or_else(|| "all".to_owned(), |models| models.join(", ")),
            breaker_said(breaker_of(upstream, breakers)),
            standstill.join("; "),
        ]);
    }
    table
}

/// As over REST, with how it is authorised and the models that go there (`null`: all).
fn upstream_json(
    upstream: &Upstream,
    configuration: &Configuration,
    pauses: &[Pause],
    breakers: &[OpenBreaker],
) -> Value {
    let open = breaker_of(upstream, breakers);
    let pause = pause_of(upstream, pauses);
    json!({
        "name": upstream.name, "object": "upstream", "provider": upstream.provider.as_str(),
        "base_url": upstream.base_url, "account": upstream.account, "priority": upstream.priority,
        "weight": upstream.weight, "auth": upstream.auth.kind(), "models": models_of(upstream, configuration),
        "paused": pause.map(|pause| json!({
            "kind": pause.kind.as_str(), "since": times::rfc3339(pause.paused_at), "reason": pause.reason,
        })),
        "paused_models": paused_models(upstream, pauses).map(|(model, pause)| json!({
            "model": model, "since": times::rfc3339(pause.paused_at), "reason": pause.reason,
        })).collect::<Vec<_>>(),
        "breaker": {
            "state": open.map_or("closed", OpenBreaker::state),
            "since": open.map(|open| times::rfc3339(open.opened_at)),
            "reason": open.map(|open| open.reason.as_str()),
            "trial_at": open.map(|open| times::rfc3339(open.trial_at)),
            "failed_trials": open.map_or(0, |open| open.failed_trials),
        },
    })
}

/// The models that are paused there, by their names there.
fn paused_models<'a>(
    upstream: &'a Upstream,
    pauses: &'a [Pause],
) -> impl Iterator<Item = (&'a str, &'a Pause)> {
    pauses.iter().filter(|pause| pause.kind == PausedKind::Model).filter_map(|pause| {
        let (of, model) = pause.name.split_once(' ')?;
        (of == upstream.name.as_str()).then_some((model, pause))
    })
}

fn breaker_of<'a>(upstream: &Upstream, breakers: &'a [OpenBreaker]) -> Option<&'a OpenBreaker> {
    breakers.iter().find(|open| open.upstream == upstream.name.as_str())
}

fn breaker_said(open: Option<&OpenBreaker>) -> String {
    let Some(open) = open else { return "closed".to_owned() };
    let state = open.state().replace('_', " ");
    format!("{state} since {} ({})", times::shown(open.opened_at), open.reason)
}

/// The models whose routes lead there; `None`: all.
fn models_of(upstream: &Upstream, configuration: &Configuration) -> Option<Vec<String>> {
    if configuration.routes.is_empty() {
        return None;
    }
    let routes = configuration.routes.iter();
    let leading = routes.filter(|route| route.targets.iter().any(|target| target.upstream == upstream.name));
    Some(leading.map(|route| route.model.to_string()).collect())
}

/// Its own pause, or else its account's.
fn pause_of<'a>(upstream: &Upstream, pauses: &'a [Pause]) -> Option<&'a Pause> {
    let find = |kind, name: &str| pauses.iter().find(|pause| pause.kind == kind && pause.name == name);
    find(PausedKind::Upstream, upstream.name.as_str())
        .or_else(|| find(PausedKind::Account, &upstream.account))
}
